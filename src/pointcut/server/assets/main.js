// The page: which picture is open, and what buttons, keys and files do. One picture or film is open at a time.

import { able, about } from "./about.js";
import * as api from "./api.js";
import { Film } from "./film.js";
import { busy, complain, element } from "./panel.js";
import { Photo } from "./photo.js";
import { Stage } from "./stage.js";

const $ = (id) => document.getElementById(id);
const SAMPLES = [["astronaut.jpg", "A portrait of an astronaut"], ["cat.jpg", "A cat"], ["coffee.jpg", "A cup of coffee"], ["rocket.jpg", "A rocket on its pad"], ["astronaut.mp4", "A film", "astronaut.jpg"]];

let open = null; // a Photo or a Film

const stage = new Stage($("stage"), {
  add: (x, y) => open?.point(x, y, 1),
  exclude: (x, y) => open?.point(x, y, 0),
  box: (box) => open?.box(box),
  hover: (x, y) => open?.hover(x, y),
});

// Opening

async function take(file, name = file.name || "pasted.png") {
  if (!file) return;
  const film = file.type.startsWith("video/") || file.type === "image/gif" || /\.(mp4|mov|mkv|webm|avi|gif)$/i.test(name);
  reveal(film ? "film" : "photo");
  const done = busy(film ? "Opening the film…" : "Looking at the picture…");
  try {
    const next = film ? await openFilm(file, name) : await openPhoto(file, name);
    open?.close();
    open = next;
    open.refresh();
    $("over").focus({ preventScroll: true });
  } catch (error) {
    reveal(open ? open.mode : "empty");
    complain(error.message);
  } finally { done(); }
}

async function openPhoto(file, name) {
  const [handle, local] = await Promise.all([api.upload(file), createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null)]);
  const fits = local && local.width === handle.width && local.height === handle.height;
  const bitmap = fits ? local : await createImageBitmap(await api.picture(handle.id)); // a kind that the browser does not show
  return new Photo(stage, file, name, bitmap, handle);
}

async function openFilm(file, name) {
  const film = new Film(stage, name, await api.openFilm(file));
  await film.go(0, true); // a click means nothing before there is something to see
  return film;
}

function reveal(mode) {
  document.body.dataset.mode = mode;
  $("start").hidden = mode !== "empty";
  $("work").hidden = mode === "empty";
  $("timeline").hidden = $("film-takeaway").hidden = mode !== "film";
  $("photo-takeaway").hidden = $("everything-block").hidden = mode === "film";
  document.querySelector(".scope").hidden = mode === "film";
  if (mode !== "film") return;
  $("improve").hidden = true;
  about(null, null);
}

$("choose").onclick = $("open").onclick = () => $("file").click();
$("file").onchange = () => { take($("file").files[0]); $("file").value = ""; };
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (file) take(file); else complain("Drop a file: a picture or a film.");
});
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => /^(image|video)\//.test(type));
  if (file) take(file);
});

$("samples").append(...SAMPLES.map(([file, title, still = file]) => {
  const button = element("button", { type: "button", "aria-label": `Try: ${title}`, class: still === file ? "photo" : "film" }, element("img", { src: `/assets/samples/${still}`, alt: title, loading: "lazy" }));
  button.onclick = async () => {
    const blob = await (await fetch(`/assets/samples/${file}`)).blob();
    take(new File([blob], file, { type: blob.type }));
  };
  return element("li", {}, button);
}));

// Tools and buttons

function choose(tool) {
  stage.tool = $("over").dataset.tool = tool;
  for (const button of document.querySelectorAll("[data-tool]")) if (button.tagName === "BUTTON") button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
}
for (const button of document.querySelectorAll("button[data-tool]")) button.onclick = () => choose(button.dataset.tool);
$("undo").onclick = () => open?.undo();
$("redo").onclick = () => open?.redo();
$("zoom-in").onclick = () => stage.zoom(1.3);
$("zoom-out").onclick = () => stage.zoom(1 / 1.3);
$("zoom-fit").onclick = () => stage.fit();
$("new").onclick = () => open?.another();
$("closer").onclick = () => open?.closer();
$("clean").onclick = () => open?.clean();
$("everything").onclick = () => open?.everything();
$("everything-clear").onclick = () => open?.clearFound();
$("sure").oninput = () => open?.limit(Number($("sure").value));
$("save-cutout").onclick = () => open?.save("cutout");
$("save-mask").onclick = () => open?.save("mask");
$("save-coco").onclick = () => open?.save("coco");
$("copy").onclick = () => open?.save("copy");
$("track").onclick = () => open?.track();
$("frame").oninput = () => open?.go(Number($("frame").value));
for (const button of document.querySelectorAll("[data-render]")) button.onclick = () => open?.takeAway(button.dataset.render);
$("help").onclick = () => $("keys").showModal();

// Keys

const KEYS = {
  a: () => choose("add"), h: () => choose("pan"), n: () => open.another(), e: () => open.everything(), f: () => open.clean(), l: () => open.closer(), s: () => open.save("cutout"),
  c: () => open.save("copy"), Delete: () => open.remove(), Backspace: () => open.remove(), "+": () => stage.zoom(1.3), "=": () => stage.zoom(1.3),
  "-": () => stage.zoom(1 / 1.3), 0: () => stage.fit(), 1: () => open.choose(0), 2: () => open.choose(1), 3: () => open.choose(2),
};
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

addEventListener("keydown", (event) => {
  if (event.target.closest("input[type=text], input:not([type]), dialog, [contenteditable]")) return;
  if (event.key === "?") { $("keys").showModal(); return; }
  if (!open || document.body.dataset.mode === "empty") return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") { event.preventDefault(); event.shiftKey ? open.redo() : open.undo(); return; }
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "y") { event.preventDefault(); open.redo(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const onPicture = event.target === $("over");
  if (onPicture && pictureKey(event)) { event.preventDefault(); return; }
  const act = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (act && !(event.target.tagName === "INPUT" && event.key.length > 1)) { event.preventDefault(); act(); }
});

/** Keys that move the cross and mark what is under it. */
function pictureKey(event) {
  const step = STEPS[event.key], far = event.shiftKey ? 10 : 1;
  if (step) stage.step(step[0] * far * stride(), step[1] * far * stride());
  else if (event.key === "Enter" && stage.cross) open.point(...stage.cross, 1);
  else if (event.key.toLowerCase() === "x") { if (stage.cross) open.point(...stage.cross, 0); else choose("exclude"); }
  else if (event.key.toLowerCase() === "b") { if (stage.cross) stage.corner(); else choose("box"); }
  else if (event.key === " ") { stage.held = true; $("over").dataset.tool = "pan"; }
  else return false;
  return true;
}
/** Pixels of one step: about four on the screen. */
const stride = () => Math.max(1, Math.round(4 / stage.view.scale));
addEventListener("keyup", (event) => { if (event.key === " ") { stage.held = false; $("over").dataset.tool = stage.tool; } });

// Looks

const theme = localStorage.getItem("pointcut-theme");
if (theme) document.documentElement.dataset.theme = theme;
$("theme").onclick = () => {
  const root = document.documentElement;
  const dark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("pointcut-theme", root.dataset.theme);
};

api.models().then(({ default: name, models, ...abilities }) => {
  able(abilities);
  open?.refresh();
  const model = models.find((one) => one.name === name);
  $("model").textContent = `${name} on ${model.device}`;
  $("model").hidden = false;
  if (model.built_in) {
    $("honest").hidden = false;
    $("honest").append("This is ", element("b", {}, "nano"), ", a small model: quick, and often ragged or wrong. For Meta's SAM 2.1 start ", element("code", {}, "pointcut serve --model sam2.1-tiny"), ".");
  }
}).catch((error) => complain(error.message));
