/** Code samples of the actions of the page. */

import { BASE } from "../service/requests.js";

/** @typedef {{curl: string, python: string, websocket: string | null}} Snippets */
/** @typedef {Record<string, string | number>} Fields */

/**
 * @typedef {object} Source  Of a voice.
 * @property {string | null} voiceId
 * @property {string | null} sessionId
 * @property {string} transcript
 */

const FILE = "recording.wav";

export class SnippetMaker {
  /**
   * @param {boolean} wantsKey
   * @param {boolean} streams
   */
  constructor(wantsKey, streams) {
    this.stream = streams ? { stream: true } : {};
    this.api = BASE.href.replace(/\/$/, "");
    this.curlKey = wantsKey ? ' \\\n  -H "Authorization: Bearer $KEY"' : "";
    this.pythonKey = wantsKey ? ', headers={"Authorization": f"Bearer {KEY}"}' : "";
    this.socketKey = wantsKey ? ', additional_headers={"Authorization": f"Bearer {KEY}"}' : "";
    this.preamble = wantsKey ? 'import os\n\nimport httpx\n\nKEY = os.environ["KEY"]\n' : "import httpx\n\n";
    this.socketPreamble = wantsKey ? "import os\n" : "";
    this.socketSetting = wantsKey ? 'KEY = os.environ["KEY"]\n' : "";
  }

  /**
   * @param {Source} source
   * @param {string} text
   * @param {Fields} options
   * @returns {Snippets}
   */
  speak(source, text, options) {
    const path = source.voiceId ? "preview-from-voice" : "preview";
    const isFile = !source.voiceId && !source.sessionId;
    const { transcript: transcription } = source;
    /** @type {Fields} */
    const who = source.voiceId
      ? { voice_id: source.voiceId }
      : isFile
        ? { transcription }
        : { session_id: source.sessionId ?? "" };
    const fields = { ...who, response_text: text, ...options };
    const curl = `curl -fsSL -o preview.wav ${this.api}/${path}${this.curlKey}${isFile ? ` \\\n  -F audio=@${FILE}` : ""}${curlForm(fields)}`;
    const files = isFile ? `, files={"audio": open("${FILE}", "rb")}` : "";
    const call = `httpx.post("${this.api}/${path}", data=${python(fields)}${files}${this.pythonKey}, timeout=60, follow_redirects=True)`;
    const save =
      'answer.raise_for_status()  # 202: not ready yet, ask answer.headers["Location"]\nopen("preview.wav", "wb").write(answer.content)';
    const data = { ...(isFile ? { session_id: "…" } : who), text, ...options, ...this.stream };
    return {
      curl,
      python: `${this.preamble}\nanswer = ${call}\n${save}`,
      websocket: this.socket("generate_preview", data, "tts_complete"),
    };
  }

  /**
   * @param {{session_id: string, name: string, description: string, consent: string}} voice
   * @returns {Snippets}
   */
  save(voice) {
    return {
      ...this.json("POST", "voices", voice),
      websocket: this.socket("save_voice", voice, "voice_saved"),
    };
  }

  /** @returns {Snippets} */
  list() {
    return this.get("voices", "print(answer.json())", "");
  }

  /**
   * @param {string} voiceId
   * @returns {Snippets}
   */
  sample(voiceId) {
    return this.get(
      `voices/${voiceId}/sample`,
      `open("${voiceId}.wav", "wb").write(answer.content)`,
      ` -o ${voiceId}.wav`,
    );
  }

  /**
   * @param {string} voiceId
   * @returns {Snippets}
   */
  export(voiceId) {
    return this.get(
      `voices/${voiceId}/export`,
      `open("${voiceId}.zip", "wb").write(answer.content)`,
      ` -o ${voiceId}.zip`,
    );
  }

  /**
   * @param {string} voiceId
   * @param {{name: string, description: string}} changes
   * @returns {Snippets}
   */
  rename(voiceId, changes) {
    return this.json("PATCH", `voices/${voiceId}`, changes);
  }

  /**
   * @param {string} voiceId
   * @returns {Snippets}
   */
  remove(voiceId) {
    const url = `${this.api}/voices/${voiceId}`;
    return {
      curl: `curl -fsS -X DELETE ${url}${this.curlKey}`,
      python: `${this.preamble}\nhttpx.delete("${url}"${this.pythonKey}).raise_for_status()`,
      websocket: null,
    };
  }

  /** @returns {Snippets} */
  verify() {
    const url = `${this.api}/verify`;
    return {
      curl: `curl -fsS ${url}${this.curlKey} \\\n  -F audio=@preview.wav`,
      python: `${this.preamble}\nanswer = httpx.post("${url}", files={"audio": open("preview.wav", "rb")}${this.pythonKey})\nanswer.raise_for_status()\nprint(answer.json())`,
      websocket: null,
    };
  }

  /** @returns {Snippets} */
  status() {
    return this.get("status", "print(answer.json())", "");
  }

  /**
   * @param {string} path
   * @param {string} use  What is done with the answer, in Python.
   * @param {string} output  Of curl.
   * @returns {Snippets}
   */
  get(path, use, output) {
    const url = `${this.api}/${path}`;
    return {
      curl: `curl -fsS${output} ${url}${this.curlKey}`,
      python: `${this.preamble}\nanswer = httpx.get("${url}"${this.pythonKey})\nanswer.raise_for_status()\n${use}`,
      websocket: null,
    };
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {Fields} body
   * @returns {Snippets}
   */
  json(method, path, body) {
    const url = `${this.api}/${path}`;
    const how = method === "POST" ? "" : ` -X ${method}`;
    return {
      curl: `curl -fsS${how} ${url}${this.curlKey} \\\n  -H "Content-Type: application/json" \\\n  -d ${quoted(JSON.stringify(body))}`,
      python: `${this.preamble}\nanswer = httpx.${method.toLowerCase()}("${url}", json=${python(body)}${this.pythonKey})\nanswer.raise_for_status()\nprint(answer.json())`,
      websocket: null,
    };
  }

  /**
   * @param {string} type
   * @param {Record<string, unknown>} data
   * @param {string} last  The message that ends it.
   * @returns {string}
   */
  socket(type, data, last) {
    const url = `${this.api.replace(/^http/, "ws")}/ws`;
    return `import json
${this.socketPreamble}
from websockets.sync.client import connect

${this.socketSetting}with connect("${url}"${this.socketKey}) as socket:
    socket.send(json.dumps({"type": "${type}", "data": ${python(data)}}))
    for raw in socket:
        message = json.loads(raw)
        print(message["type"], message["data"].get("job_id", ""))
        if message["type"] in {"${last}", "error"}:
            break`;
  }
}

/** @param {Fields} fields */
function curlForm(fields) {
  return Object.entries(fields)
    .map(([name, value]) => ` \\\n  --form-string ${quoted(`${name}=${value}`)}`)
    .join("");
}

/** @param {string} text For a shell. */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** @param {Record<string, unknown>} value Flat, so that JSON is Python but for one word. */
function python(value) {
  const entries = Object.entries(value).map(
    ([name, one]) => `"${name}": ${one === true ? "True" : JSON.stringify(one)}`,
  );
  return `{${entries.join(", ")}}`;
}
