// What is said of the selected object, and what is like it: a vision-language model and a library, where the server has them.
// Everything that comes back is set as text, whatever it looks like.

import * as api from "./api.js";
import { chosen } from "./document.js";
import { complain, element } from "./panel.js";

const $ = (id) => document.getElementById(id);
const PAGE = 12;

let abilities = { index: null, describe: false };
let current = null;   // what is shown: the mask it is about, its answer, its hits
let asking = null;    // ends the question that is open
let next = null;      // asks for the next page of hits

/** What the server can do, as `/v1/models` tells. */
export function able({ index, describe }) {
  abilities = { index, describe };
  $("ask").hidden = !describe;
  $("similar").hidden = !index;
  $("find").hidden = !index;
  $("meant").title = index?.text ? "What is meant, in words" : "What stands in labels and descriptions";
}

/** Shows what is known of an object of a photo; of none the block is hidden. */
export function about(photo, object) {
  const mask = object && chosen(object);
  $("about-block").hidden = !mask || !(abilities.index || abilities.describe);
  if (mask === current?.mask) return;
  asking?.abort();
  current = mask ? { photo, object, mask } : null;
  $("said").hidden = !object?.description;
  $("said").textContent = object?.description ?? "";
  show([]);
}

function show(hits, more = null) {
  $("hits").replaceChildren(...hits.map(tile));
  next = more;
  $("more-hits").hidden = !more;
}

function tile(hit) {
  const words = hit.description || hit.label, likeness = hit.similarity.toFixed(2);
  const title = [hit.image, words].filter(Boolean).join(": ");
  return element("li", { title }, element("img", { src: hit.thumbnail, alt: title, loading: "lazy" }), element("span", {}, `${likeness} ${words || hit.image}`));
}

/** wanted: gives what is looked for. */
async function search(wanted, skip = 0) {
  const mine = current;
  $("similar").disabled = true;
  try {
    const { hits } = await mine.photo.there(async () => api.search({ ...(await wanted()), count: PAGE, skip }));
    if (mine !== current) return;
    const before = skip ? [...$("hits").children] : [];
    show(hits, hits.length === PAGE ? () => search(wanted, skip + PAGE) : null);
    $("hits").prepend(...before);
    if (!hits.length && !skip) $("hits").replaceChildren(element("li", { class: "fine" }, "Nothing was found."));
  } catch (error) {
    complain(error.message);
  } finally { $("similar").disabled = false; }
}

$("similar").onclick = () => {
  const { photo, mask } = current;
  search(async () => ({ image: await photo.handleFor(abilities.index.model), mask: mask.rle }));
};
$("more-hits").onclick = () => next?.();
$("find").onsubmit = (event) => {
  event.preventDefault();
  const words = $("meant").value.trim();
  if (words) search(() => (abilities.index.text ? { text: words } : { words }));
};

$("ask").onsubmit = async (event) => {
  event.preventDefault();
  const mine = current, question = $("question").value.trim();
  if (!mine || !question) return;
  asking?.abort();
  const stop = (asking = new AbortController());
  $("said").hidden = false;
  $("said").textContent = "…";
  let said = "";
  try {
    await mine.photo.there(async () => {
      for await (const line of api.lines(`/v1/images/${mine.photo.id}/describe`, { mask: mine.mask.rle, ask: question }, stop.signal)) {
        if (line.type === "piece") said += line.text;
        if (line.type === "result") mine.photo.describe(mine.object.id, line.description);
        if (mine === current) $("said").textContent = said || "…";
      }
    });
  } catch (error) {
    if (error.name === "AbortError") return;
    if (mine === current) { $("said").textContent = said; $("said").hidden = !said; }
    complain(error.message);
  }
};
