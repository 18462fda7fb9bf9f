// The server's interface. Every error is a Problem with the server's own words.

export class Problem extends Error {
  constructor({ detail, status = 0, code = "unreachable" }) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

async function send(method, path, options = {}) {
  const { json, body = json === undefined ? undefined : JSON.stringify(json), signal } = options;
  const headers = { ...options.headers, ...(json === undefined ? {} : { "Content-Type": "application/json" }) };
  let response;
  try {
    response = await fetch(path, { method, body, signal, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ detail: "The server does not answer. Is it still running?" });
  }
  if (!response.ok) throw new Problem(await response.json().catch(() => ({ detail: `The server answered ${response.status}.`, status: response.status })));
  return response;
}

const json = async (...request) => (await send(...request)).json();

/** What a proxy in front of several servers chooses by, where the browser lets a page compute it. */
async function sticky(file) {
  if (!globalThis.crypto?.subtle) return {};
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  return { "X-Image-Hash": [...digest.slice(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("") };
}

export const models = () => json("GET", "/v1/models");
export const upload = async (file, model = null) => json("POST", `/v1/images${model ? `?model=${encodeURIComponent(model)}` : ""}`, { body: file, headers: await sticky(file) });
export const segment = (id, prompt, signal) => json("POST", `/v1/images/${id}/segment`, { json: prompt, signal });
export const clean = (id, mask) => json("POST", `/v1/images/${id}/clean`, { json: { mask } });
export const search = (asked) => json("POST", "/v1/index/search", { json: asked });
export const picture = async (id) => (await send("GET", `/v1/images/${id}/picture`)).blob();

export const openFilm = (file) => json("POST", "/v1/videos", { body: file });
export const promptFilm = (id, prompt) => json("POST", `/v1/videos/${id}/prompt`, { json: prompt });
export const removeFrom = (id, object) => send("DELETE", `/v1/videos/${id}/objects/${object}`);
export const closeFilm = (id) => send("DELETE", `/v1/videos/${id}`);
export const render = async (id, format) => (await send("POST", `/v1/videos/${id}/render`, { json: { format } })).blob();
export const frame = async (id, number, signal) => (await send("GET", `/v1/videos/${id}/frames/${number}`, { signal })).blob();

/** The lines of an answer that comes bit by bit. */
export async function* lines(path, body, signal) {
  const response = await send("POST", path, { json: body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) {
      const line = JSON.parse(part);
      if (line.type === "error") throw new Problem(line);
      yield line;
    }
  }
}
