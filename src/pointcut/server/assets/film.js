// One film: prompts on any of its frames, tracking, and what can be taken away of it.

import * as api from "./api.js";
import { target, change, activate, remove, active, EMPTY } from "./document.js";
import { busy, complain, listCandidates, listObjects, tell } from "./panel.js";
import { download } from "./takeaway.js";

const $ = (id) => document.getElementById(id);

export class Film {
  mode = "film";
  state = EMPTY;

  constructor(stage, name, about) {
    Object.assign(this, { stage, name, about, id: about.id, model: about.model });
    this.number = 0;
    this.rows = new Map();  // frame -> Map(object -> mask)
    this.said = new Map();  // "frame/object" -> {points, box}
    this.queue = Promise.resolve();
    $("frame").max = Math.max(0, about.frames - 1);
  }

  do(deed) {
    this.queue = this.queue.then(deed).catch((error) => complain(error.message));
    return this.queue;
  }

  // Frames: the last one that was asked for is the one that is shown

  async go(number, first = false) {
    this.number = number;
    $("frame").value = number;
    this.loading?.abort();
    const loading = (this.loading = new AbortController());
    try {
      const bitmap = await createImageBitmap(await api.frame(this.id, number, loading.signal));
      if (this.number !== number) return;
      this.bitmap = bitmap;
      this.stage.show(bitmap, !first);
      this.refresh();
    } catch (error) {
      if (error.name !== "AbortError") complain(error.message);
    }
  }

  hover() {}

  // Prompts

  point(x, y, label) {
    return this.do(() => {
      const [state, object] = target(this.state), key = `${this.number}/${object.id}`;
      const said = this.said.get(key) ?? { points: [], box: null };
      if (!label && !said.points.length && !this.mask(object)) throw new Error("First click what belongs to the object; then exclude what does not.");
      return this.tell(state, object, key, { ...said, points: [...said.points, { x, y, label }] });
    });
  }

  box(box) {
    return this.do(() => {
      const now = active(this.state) && this.mask(active(this.state)) ? activate(this.state, null) : this.state;
      const [state, object] = target(now);
      return this.tell(state, object, `${this.number}/${object.id}`, { points: [], box });
    });
  }

  async tell(state, object, key, said) {
    const number = this.number, prompt = { frame: number, object: object.id };
    if (said.points.length) {
      prompt.points = said.points.map(({ x, y }) => [x, y]);
      prompt.labels = said.points.map(({ label }) => label);
    }
    if (said.box) prompt.box = said.box;
    const answer = await api.promptFilm(this.id, prompt);
    this.said.set(key, said);
    this.state = change(state, object.id, { masks: answer.masks, chosen: 0 });
    this.keep(number, answer.masks.map((mask) => ({ ...mask, id: object.id })));
    this.refresh();
    tell(`${object.name} on frame ${number}: score ${answer.masks[0].score.toFixed(2)}. Track follows it.`);
  }

  keep(number, objects) {
    const row = this.rows.get(number) ?? new Map();
    for (const one of objects) row.set(one.id, one);
    this.rows.set(number, row);
  }

  mask(object) { return this.rows.get(this.number)?.get(object.id) ?? null; }

  // Tracking

  track() {
    if (this.tracking) { this.tracking.abort(); return; }
    if (!this.state.objects.length) { complain("Click an object first; Track then follows it through the film."); return; }
    const stop = (this.tracking = new AbortController()), from = this.number;
    this.do(async () => {
      $("track").textContent = "Stop";
      let last = from;
      try {
        for await (const line of api.lines(`/v1/videos/${this.id}/track`, { start: from }, stop.signal)) {
          if (line.type === "done" && line.broken) complain(`The film breaks off: ${line.broken}`);
          if (line.type !== "frame") continue;
          last = line.frame;
          this.keep(last, line.objects);
          await this.go(last);
        }
        tell(`Tracked to frame ${last}.`);
      } catch (error) {
        if (error.name !== "AbortError") throw error;
      } finally {
        this.tracking = null;
        $("track").textContent = "Track";
        this.refresh();
      }
    });
  }

  // Deeds

  another() { this.state = activate(this.state, null); this.refresh(); }
  activate(id) { this.state = activate(this.state, id); this.refresh(); }
  rename(id, name) { this.state = change(this.state, id, { name: name.trim() || `object ${id}` }); this.refresh(); }
  recolour() {}
  remove(id = this.state.active) {
    if (id === null) return;
    this.do(async () => {
      await api.removeFrom(this.id, id);
      for (const row of this.rows.values()) row.delete(id);
      for (const key of [...this.said.keys()]) if (key.endsWith(`/${id}`)) this.said.delete(key);
      this.state = remove(this.state, id);
      this.refresh();
    });
  }
  undo() {}
  redo() {}
  choose() {}
  clean() {}
  closer() {}
  everything() {}
  save() {}

  takeAway(format) {
    return this.do(async () => {
      const done = busy("Writing the film…");
      try {
        const blob = await api.render(this.id, format);
        const ending = { coco: "coco.json", json: "track.jsonl" }[format] ?? format;
        download(blob, `${this.name.replace(/\.[^.]*$/, "")}.${ending}`);
        tell("Saved.");
      } finally { done(); }
    });
  }

  // What is seen

  refresh() {
    const { state, stage } = this, object = active(state);
    const seen = state.objects.filter((o) => this.mask(o)?.area);
    stage.layers = seen.map((o) => ({ mask: this.mask(o), colour: o.colour, faint: o.id !== state.active }));
    stage.marks = object && this.said.has(`${this.number}/${object.id}`) ? [this.said.get(`${this.number}/${object.id}`)] : [];
    stage.paint();
    listObjects({ ...state, objects: state.objects.map((o) => ({ ...o, masks: this.mask(o) ? [this.mask(o)] : [], chosen: 0 })) }, this);
    listCandidates(null);
    $("undo").disabled = $("redo").disabled = true;
    $("frame-text").value = `${this.number + 1} / ${this.about.frames}`;
    $("hint").textContent = state.objects.length ? (this.rows.size > 1 ? "" : "Track follows it; a click on any frame corrects it") : "Click what is to be followed, or drag a box";
    for (const button of document.querySelectorAll("[data-render]")) button.disabled = !this.rows.size;
  }

  close() {
    this.tracking?.abort();
    api.closeFilm(this.id).catch(() => {});
  }
}
