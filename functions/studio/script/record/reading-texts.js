/** Sentences to read aloud, some ten seconds each, in the languages of the model. */

/** @typedef {{name: string, own: string, code: string, texts: [string, ...string[]]}} Language */

/** @type {Language[]} `name` is what the service calls it. */
export const LANGUAGES = [
  {
    name: "English",
    own: "English",
    code: "en",
    texts: [
      "On Sunday morning we took the early train to the coast, walked along the harbour for an hour, and had fresh bread with cheese while the boats came in.",
      "My neighbour keeps a small workshop behind the house, where she repairs old clocks. Every one of them, she says, has a story it would like to tell.",
      "If the weather stays like this, we could paint the kitchen on Thursday, and have a few friends over by the end of the week.",
    ],
  },
  {
    name: "German",
    own: "Deutsch",
    code: "de",
    texts: [
      "Am Sonntagmorgen fuhren wir mit dem ersten Zug ans Meer, gingen eine Stunde am Hafen entlang und aßen frisches Brot mit Käse, während die Boote einliefen.",
      "Meine Nachbarin hat hinter dem Haus eine kleine Werkstatt, in der sie alte Uhren repariert. Jede von ihnen, sagt sie, möchte eine Geschichte erzählen.",
    ],
  },
  {
    name: "French",
    own: "Français",
    code: "fr",
    texts: [
      "Dimanche matin, nous avons pris le premier train pour la côte, marché une heure le long du port, puis mangé du pain frais et du fromage en regardant rentrer les bateaux.",
      "Ma voisine a un petit atelier derrière la maison, où elle répare de vieilles horloges. Chacune, dit-elle, aurait une histoire à raconter.",
    ],
  },
  {
    name: "Spanish",
    own: "Español",
    code: "es",
    texts: [
      "El domingo por la mañana tomamos el primer tren a la costa, paseamos una hora por el puerto y comimos pan recién hecho con queso mientras llegaban los barcos.",
      "Mi vecina tiene un pequeño taller detrás de la casa, donde arregla relojes antiguos. Dice que cada uno tiene una historia que contar.",
    ],
  },
  {
    name: "Italian",
    own: "Italiano",
    code: "it",
    texts: [
      "Domenica mattina abbiamo preso il primo treno per la costa, camminato un'ora lungo il porto e mangiato pane fresco con il formaggio mentre tornavano le barche.",
      "La mia vicina ha una piccola officina dietro casa, dove ripara vecchi orologi. Ognuno, dice, avrebbe una storia da raccontare.",
    ],
  },
  {
    name: "Portuguese",
    own: "Português",
    code: "pt",
    texts: [
      "No domingo de manhã, pegamos o primeiro trem para o litoral, caminhamos uma hora pelo porto e comemos pão fresco com queijo enquanto os barcos chegavam.",
      "Minha vizinha tem uma pequena oficina atrás da casa, onde conserta relógios antigos. Cada um deles, diz ela, gostaria de contar uma história.",
    ],
  },
  {
    name: "Russian",
    own: "Русский",
    code: "ru",
    texts: [
      "В воскресенье утром мы поехали первым поездом к морю, целый час гуляли вдоль гавани и ели свежий хлеб с сыром, пока возвращались лодки.",
      "У моей соседки за домом есть маленькая мастерская, где она чинит старые часы. Каждые из них, говорит она, хотели бы рассказать свою историю.",
    ],
  },
  {
    name: "Chinese",
    own: "中文",
    code: "zh",
    texts: [
      "星期天早上，我们坐头班火车去海边，沿着港口走了一个小时，一边吃着新鲜的面包和奶酪，一边看渔船慢慢靠岸。",
      "我的邻居在屋后有一间小小的工作室，她在那里修理旧钟表。她说，每一只钟都有一个想讲的故事。",
    ],
  },
  {
    name: "Japanese",
    own: "日本語",
    code: "ja",
    texts: [
      "日曜日の朝、始発の電車で海へ行きました。一時間ほど港を歩いてから、船が帰ってくるのを眺めながら、焼きたてのパンとチーズを食べました。",
      "となりの家の裏には小さな工房があって、古い時計を直しています。どの時計にも話したい物語があるのだそうです。",
    ],
  },
  {
    name: "Korean",
    own: "한국어",
    code: "ko",
    texts: [
      "일요일 아침, 우리는 첫 기차를 타고 바닷가로 갔습니다. 한 시간 동안 항구를 걷고, 배가 들어오는 것을 보면서 갓 구운 빵과 치즈를 먹었습니다.",
      "우리 이웃은 집 뒤에 작은 작업실을 두고 오래된 시계를 고칩니다. 시계마다 들려주고 싶은 이야기가 있다고 합니다.",
    ],
  },
];

/** @returns {Language} The language that was chosen for the page, that of the browser, or English. */
export function likelyLanguage() {
  const chosen = new URLSearchParams(location.search).get("lang");
  const spoken = [...(chosen ? [chosen] : []), ...navigator.languages].map((tag) =>
    tag.slice(0, 2).toLowerCase(),
  );
  const found = spoken.map((code) => LANGUAGES.find((language) => language.code === code)).find(Boolean);
  return found ?? languageOf("English");
}

/**
 * @param {string} name
 * @returns {Language}
 */
export function languageOf(name) {
  const found = LANGUAGES.find((language) => language.name === name);
  if (!found) throw new Error(`There is no language ${name}`);
  return found;
}
