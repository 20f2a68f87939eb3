/** The storage of this browser (IndexedDB). Without it, as in some private windows, nothing is kept. */

const NAME = "studio";
const STORES = /** @type {const} */ (["takes", "draft"]);

/** @typedef {typeof STORES[number]} StoreName */

/** @type {Promise<IDBDatabase> | null} */
let opened = null;

/** @returns {Promise<IDBDatabase>} */
function open() {
  opened ??= new Promise((resolve, reject) => {
    const opening = indexedDB.open(NAME, 1);
    opening.onupgradeneeded = () => {
      for (const store of STORES) opening.result.createObjectStore(store);
    };
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      opening.result.onversionchange = () => opening.result.close(); // another tab deletes it
      resolve(opening.result);
    };
  });
  return opened;
}

/**
 * @param {StoreName} store
 * @param {string} key
 * @param {unknown} value  Undefined deletes the entry.
 * @returns {Promise<void>}
 */
export async function keep(store, key, value) {
  const database = await open();
  const entries = database.transaction(store, "readwrite").objectStore(store);
  if (value === undefined) await done(entries.delete(key));
  else await done(entries.put(value, key));
}

/**
 * @param {StoreName} store
 * @param {string} key
 * @returns {Promise<any>}
 */
export async function kept(store, key) {
  return done((await open()).transaction(store).objectStore(store).get(key));
}

/**
 * @param {StoreName} store
 * @returns {Promise<any[]>}
 */
export async function allKept(store) {
  return done((await open()).transaction(store).objectStore(store).getAll());
}

/**
 * @template Result
 * @param {IDBRequest<Result>} request
 * @returns {Promise<Result>}
 */
function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
