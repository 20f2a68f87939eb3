/** Elements of the page. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Make an element.  Properties that start with `on` are listeners, `class` is the class list, `data` is the dataset;
 * what the element has as a property is set as one, all else as an attribute.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value !== undefined && value !== null) set(element, name, value);
  }
  element.append(...present(children));
  return element;
}

/**
 * @param {HTMLElement} element
 * @param {string} name
 * @param {unknown} value
 */
function set(element, name, value) {
  if (name.startsWith("on")) {
    element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
  } else if (name === "class") {
    element.className = String(value);
  } else if (name === "data") {
    Object.assign(element.dataset, value);
  } else if (name in element) {
    Reflect.set(element, name, value);
  } else {
    element.setAttribute(name, String(value));
  }
}

/**
 * Put children in the place of those that are there.
 *
 * @param {Element} parent
 * @param {...Child} children
 */
export function fill(parent, ...children) {
  parent.replaceChildren(...present(children));
}

/**
 * @param {Child[]} children
 * @returns {(Node | string)[]}
 */
function present(children) {
  return children
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (typeof child === "number" ? String(child) : /** @type {Node | string} */ (child)));
}

/**
 * Find an element of the page that has to be there.
 *
 * @template {HTMLElement} Kind
 * @param {string} id
 * @param {new () => Kind} kind
 * @returns {Kind}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`The page has no ${kind.name} #${id}`);
  return found;
}

/**
 * Pass each file that the user chooses to a function.  A file that was chosen before this call is passed too, because
 * most scripts are loaded after the page is shown.
 *
 * @param {string} id  The id of the file input.
 * @param {(file: File) => void} take
 */
export function onFile(id, take) {
  const input = byId(id, HTMLInputElement);
  const takeChosen = () => {
    const [file] = input.files ?? [];
    input.value = ""; // the same file can be chosen again
    if (file) take(file);
  };
  input.addEventListener("change", takeChosen);
  takeChosen();
}

/**
 * Make a picture out of the page's set, for eyes only.
 *
 * @param {string} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}
