// One photograph: clicks to questions, answers to what is shown, and what can be taken away of it.

import * as api from "./api.js";
import { about } from "./about.js";
import * as doc from "./document.js";
import { Hover } from "./hover.js";
import { busy, complain, listCandidates, listObjects, share, tell } from "./panel.js";
import { holds } from "./rle.js";
import { coco, copy, cutout, download, maskPicture } from "./takeaway.js";

const $ = (id) => document.getElementById(id);
const COARSE = matchMedia("(pointer: coarse)").matches;
const FOUND = [[0, 150, 160], [214, 40, 90], [245, 124, 0], [56, 158, 62], [130, 70, 220], [196, 150, 0]];

const gone = ({ code }) => code === "image_gone" || code === "no_such_image";

export class Photo {
  mode = "photo";
  found = [];        // everything's masks
  sure = 0.5;

  constructor(stage, file, name, bitmap, handle) {
    Object.assign(this, { stage, file, name, bitmap, id: handle.id, model: handle.model });
    this.history = new doc.History();
    this.queue = Promise.resolve();
    this.hovering = new Hover((x, y) => this.preview(x, y), (rle) => stage.light(rle, this.nextColour()));
    stage.show(bitmap);
    this.refresh();
  }

  get state() { return this.history.now; }
  nextColour() { return doc.target(this.state)[1].colour; }

  // Questions

  async ask(prompt) {
    try {
      return await api.segment(this.id, prompt);
    } catch (error) {
      if (gone(error)) await this.again();
      else if (error.code !== "previous_gone") throw error;
      delete prompt.previous;
      return api.segment(this.id, prompt);
    }
  }

  /** Uploads it once more: it made room for others, or the server was started again. */
  async again() { this.id = (await api.upload(this.file)).id; }

  /** What a deed gives that needs the picture on the server. */
  async there(deed) {
    try { return await deed(); } catch (error) {
      if (!gone(error)) throw error;
      await this.again();
      return deed();
    }
  }

  /** The picture as a certain model has it; pictures of others cannot be compared with what that one has seen. */
  async handleFor(model) { return model === this.model ? this.id : (await api.upload(this.file, model)).id; }

  async preview(x, y) {
    const answer = await this.ask({ points: [[x, y]], output: ["preview"] });
    return answer.preview;
  }

  hover(x, y) {
    const object = doc.active(this.state);
    const free = x !== null && !(object && object.masks.length) && this.stage.tool !== "pan";
    if (this.found.length && x !== null && !object?.points.length) { this.lightFound(x, y); return; }
    this.hovering.at(free ? x : null, y);
  }

  /** One deed after another; what goes wrong is said, and nothing is changed by it. (Not `then`: `await` would call it.) */
  do(deed) {
    this.queue = this.queue.then(deed).catch((error) => complain(error.message));
    return this.queue;
  }

  point(x, y, label) {
    return this.do(async () => {
      const kept = label && this.found.length ? this.under(x, y) : null;
      if (kept) return this.keep(kept);
      const [state, object] = doc.target(this.state);
      if (!label && !object.masks.length && !object.points.length) throw new Error("First click what belongs to the object; then exclude what does not.");
      await this.answer(state, { ...object, points: [...object.points, { x, y, label }] });
    });
  }

  box(box) {
    return this.do(async () => {
      const now = doc.active(this.state)?.masks.length ? doc.activate(this.state, null) : this.state; // a box is another object
      const [state, object] = doc.target(now);
      await this.answer(state, { ...object, box });
    });
  }

  /** The mask that is shown, drawn anew: the model sees what is around it alone, as large as it can. */
  closer() {
    return this.do(async () => {
      const object = doc.active(this.state);
      if (!object?.masks.length) throw new Error("Click an object first.");
      await this.answer(this.state, object, { zoom: true });
    });
  }

  async answer(state, object, how = {}) {
    this.hovering.at(null);
    const prompt = { ...doc.promptOf(object), ...how }, before = doc.chosen(object);
    if (object.result !== null) prompt.previous = `${object.result}/${object.chosen}`;
    else if (before) prompt.mask = before.rle; // it was found without a prompt
    const done = this.slow("Looking…");
    try {
      const answer = await this.ask(prompt);
      this.history.push(doc.change(state, object.id, { points: object.points, box: object.box, masks: answer.masks, chosen: answer.best[0], result: answer.result, description: "" }));
    } finally { done(); }
    this.refresh();
    this.report();
  }

  /** A word for what takes longer than a blink. */
  slow(text) {
    let end = () => {};
    const timer = setTimeout(() => (end = busy(text)), 400);
    return () => { clearTimeout(timer); end(); };
  }

  report() {
    const object = doc.active(this.state), mask = object && doc.chosen(object);
    if (!mask) return;
    const part = (100 * mask.area) / (this.bitmap.width * this.bitmap.height);
    tell(`${object.name}: score ${mask.score.toFixed(2)}, ${part.toFixed(part < 10 ? 1 : 0)} % of the picture, ${object.masks.length} candidate${object.masks.length > 1 ? "s" : ""}.`);
  }

  // Everything

  everything() {
    const stop = new AbortController();
    return this.do(async () => {
      const done = busy("Finding everything…", () => stop.abort());
      try {
        for await (const line of api.lines(`/v1/images/${this.id}/everything`, {}, stop.signal)) {
          if (line.type === "progress" && line.total) share(line.done / line.total);
          if (line.type === "result") this.found = line.masks.map((mask, i) => ({ mask, colour: FOUND[i % FOUND.length] })).sort((a, b) => b.mask.area - a.mask.area);
        }
        tell(`${this.found.length} things were found.`);
      } catch (error) {
        if (error.name !== "AbortError") throw error;
      } finally { done(); }
      if (this.found.length) {
        const scores = this.found.map(({ mask }) => mask.score);
        $("sure").min = Math.floor(Math.min(...scores) * 100) / 100;
        $("sure").value = this.sure = Number($("sure").min);
      }
      this.refresh();
    });
  }

  sureEnough() { return this.found.filter(({ mask }) => mask.score >= this.sure); }
  /** The smallest of what was found at a place. */
  under(x, y) {
    return this.sureEnough().filter(({ mask }) => holds(mask.rle, x, y)).sort((a, b) => a.mask.area - b.mask.area)[0] ?? null;
  }
  lightFound(x, y) { const one = this.under(x, y); this.stage.light(one && one.mask.rle, [255, 255, 255]); }
  keep({ mask }) {
    const [state, object] = doc.target(doc.activate(this.state, null));
    this.history.push(doc.change(state, object.id, { masks: [mask], chosen: 0 }));
    this.found = this.found.filter((one) => one.mask !== mask);
    this.refresh();
    this.report();
  }
  limit(value) { this.sure = value; this.refresh(); }
  clearFound() { this.found = []; this.refresh(); }

  // Deeds without questions

  undo() { this.history.undo(); this.refresh(); this.report(); }
  redo() { this.history.redo(); this.refresh(); this.report(); }
  choose(i) {
    const object = doc.active(this.state);
    if (!object?.masks[i] || i === object.chosen) return;
    this.history.push(doc.change(this.state, object.id, { chosen: i, description: "" }));
    this.refresh();
    this.report();
  }
  /** Small holes filled, specks dropped: of the mask that is shown, until the next click asks the model again. */
  clean() {
    return this.do(async () => {
      const object = doc.active(this.state), mask = object && doc.chosen(object);
      if (!mask) throw new Error("Click an object first.");
      const clean = await this.there(() => api.clean(this.id, mask.rle));
      if (clean.rle.counts === mask.rle.counts) { tell("There are no small holes or specks in it."); return; }
      const masks = object.masks.map((one, i) => (i === object.chosen ? { ...one, ...clean } : one));
      this.history.push(doc.change(this.state, object.id, { masks }));
      this.refresh();
      this.report();
    });
  }
  another() { this.history.replace(doc.activate(this.state, null)); this.refresh(); tell("The next click begins another object."); }
  activate(id) { this.history.replace(doc.activate(this.state, id)); this.refresh(); }
  rename(id, name) { this.history.push(doc.change(this.state, id, { name: name.trim() || `object ${id}` })); this.refresh(); }
  recolour(id) {
    const hue = Math.random() * 6, channel = (n) => Math.round(215 * Math.min(1, Math.max(0, Math.abs(((hue + n) % 6) - 3) - 1)));
    this.history.push(doc.change(this.state, id, { colour: [channel(0), channel(4), channel(2)] }));
    this.refresh();
  }
  /** What a model said of an object: no deed of the user's, so there is no way back from it. */
  describe(id, description) { this.history.replace(doc.change(this.state, id, { description })); this.refresh(); }
  remove(id = this.state.active) {
    if (id === null) return;
    this.history.push(doc.remove(this.state, id));
    this.refresh();
    tell("Removed. Undo brings it back.");
  }

  // What is seen

  refresh() {
    const { state, stage } = this, object = doc.active(state);
    const here = doc.withMask(state).map((o) => ({ mask: doc.chosen(o), colour: o.colour, faint: o.id !== state.active }));
    stage.layers = [...this.sureEnough().map((one) => ({ ...one, faint: true })), ...here];
    stage.marks = object ? [object] : [];
    stage.light(null);
    stage.paint();
    listObjects(state, this);
    listCandidates(object, this.bitmap, (i) => this.choose(i));
    $("improve").hidden = !object?.masks.length;
    about(this, object);
    $("undo").disabled = !this.history.canUndo;
    $("redo").disabled = !this.history.canRedo;
    for (const id of ["save-cutout", "copy", "save-mask", "save-coco"]) $(id).disabled = !here.length;
    $("everything-found").hidden = !this.found.length;
    $("sure-text").value = this.sure.toFixed(2);
    $("sure-count").textContent = `${this.sureEnough().length} of ${this.found.length}.`;
    $("hint").textContent = this.hint(object);
  }

  hint(object) {
    if (this.found.length && !object) return "Click something that was found to keep it";
    if (!object?.masks.length) return COARSE ? "Tap what you want; two fingers zoom" : "Move to see what lies under the pointer, click to take it, or drag a box";
    return object.points.length + (object.box ? 1 : 0) < 2 ? `Click where more belongs to it; ${COARSE ? "Exclude and tap" : "right-click"} where it took too much` : "";
  }

  // Taking away

  scope() {
    const objects = doc.withMask(this.state), all = document.querySelector('[name="scope"]:checked').value === "all";
    const one = objects.find(({ id }) => id === this.state.active) ?? objects.at(-1);
    return all ? objects : one ? [one] : [];
  }
  masks() { return this.scope().map(doc.chosen); }
  stem() { return this.name.replace(/\.[^.]*$/, "") || "picture"; }

  save(kind) {
    if (!this.scope().length) { complain("Click an object first."); return undefined; }
    return this.do(async () => {
      if (kind === "copy") {
        await copy(cutout(this.bitmap, this.masks())).catch(() => { throw new Error("The browser does not let this page use the clipboard; save the PNG instead."); });
        tell("The cut-out is on the clipboard.");
        return;
      }
      if (kind === "coco") {
        const objects = this.scope().map((o) => ({ name: o.name, description: o.description, mask: doc.chosen(o) }));
        download(coco(this.name, [this.bitmap.height, this.bitmap.width], objects), `${this.stem()}.coco.json`);
      } else download(await (kind === "mask" ? maskPicture(this.masks()) : cutout(this.bitmap, this.masks())), `${this.stem()}.${kind}.png`);
      tell("Saved.");
    });
  }

  close() {}
}
