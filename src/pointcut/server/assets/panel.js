// The list of objects and the candidates: drawn anew from what is known. Text of people is only ever set as text.

import { chosen } from "./document.js";
import { picture } from "./rle.js";

const $ = (id) => document.getElementById(id);
const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** acts: activate(id), rename(id, name), recolour(id), remove(id). */
export function listObjects(state, acts) {
  const list = $("objects");
  if (list.contains(document.activeElement) && document.activeElement.tagName === "INPUT") return; // a name is being typed
  list.replaceChildren(...state.objects.map((object) => {
    const mask = chosen(object);
    const swatch = element("button", { type: "button", class: "swatch", "aria-label": `Select ${object.name}`, title: "Select; double-click for another colour", onclick: () => acts.activate(object.id), ondblclick: () => acts.recolour(object.id) });
    swatch.style.background = css(object.colour);
    return element(
      "li", { "aria-current": object.id === state.active ? "true" : false, onclick: (event) => event.target.tagName === "LI" && acts.activate(object.id) },
      swatch,
      element("input", { value: object.name, "aria-label": "Name", maxlength: 60, spellcheck: "false", onfocus: () => acts.activate(object.id), onchange: (event) => acts.rename(object.id, event.target.value), onkeydown: (event) => event.key === "Enter" && event.target.blur() }),
      element("span", { class: "score", title: "The score that the model gives its own mask" }, mask ? mask.score.toFixed(2) : "–"),
      element("button", { type: "button", class: "quiet icon", "aria-label": `Remove ${object.name}`, title: "Remove (Del)", onclick: () => acts.remove(object.id) }, "×"),
    );
  }));
  $("no-objects").hidden = state.objects.length > 0;
}

/** The masks that one click may have meant. */
export function listCandidates(object, bitmap, choose) {
  const several = object && object.masks.length > 1;
  $("candidates-block").hidden = !several;
  if (!several) return;
  $("candidates").replaceChildren(...object.masks.map((mask, i) => {
    const canvas = element("canvas", { width: 120, height: 120, "aria-hidden": "true" });
    thumbnail(canvas, bitmap, mask, object.colour);
    const here = i === object.chosen;
    return element("button", { type: "button", role: "radio", "aria-checked": String(here), tabindex: here ? 0 : -1, "aria-label": `Candidate ${i + 1}, score ${mask.score.toFixed(2)}`, onclick: () => choose(i), onkeydown: (event) => turn(event, i, object.masks.length, choose) }, canvas, `${i + 1} · ${mask.score.toFixed(2)}`);
  }));
}

function turn(event, i, count, choose) {
  const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!way) return;
  event.preventDefault();
  event.stopPropagation();
  choose((i + way + count) % count);
  $("candidates").querySelector('[aria-checked="true"]')?.focus();
}

function thumbnail(canvas, bitmap, mask, colour) {
  const [x0, y0, x1, y1] = mask.box_xyxy, side = Math.max(8, Math.max(x1 - x0, y1 - y0) * 1.15);
  const context = canvas.getContext("2d"), scale = canvas.width / side;
  context.setTransform(scale, 0, 0, scale, canvas.width / 2 - (scale * (x0 + x1)) / 2, canvas.height / 2 - (scale * (y0 + y1)) / 2);
  context.drawImage(bitmap, 0, 0);
  context.drawImage(picture(mask, colour), 0, 0, bitmap.width, bitmap.height);
}

let closing;
export function complain(text) {
  $("toast-text").textContent = text;
  $("toast").hidden = false;
  clearTimeout(closing);
  closing = setTimeout(() => ($("toast").hidden = true), 12_000);
}
$("toast-close").addEventListener("click", () => ($("toast").hidden = true));

export const tell = (text) => ($("live").textContent = text);

/** Shows that something is going on; returns what ends it. `stop`: what the button does, if there is to be one. */
export function busy(text, stop = null) {
  $("busy").hidden = false;
  $("busy-text").textContent = text;
  $("busy-bar").hidden = true;
  $("busy-stop").hidden = !stop;
  $("busy-stop").onclick = stop;
  return () => ($("busy").hidden = true);
}
export function share(part) {
  $("busy-bar").hidden = false;
  $("busy-bar").value = part;
}
