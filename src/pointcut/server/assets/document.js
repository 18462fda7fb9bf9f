// What was pointed at in one picture: objects with their prompts and masks, and the way back. All values are immutable:
// undoing is looking at an earlier one.

const HUES = [[30, 136, 229], [245, 124, 0], [56, 158, 62], [214, 40, 90], [130, 70, 220], [0, 160, 170], [196, 150, 0], [120, 90, 70]];

export const EMPTY = Object.freeze({ objects: [], active: null, next: 1 });

export class History {
  #states = [EMPTY];
  #at = 0;

  get now() { return this.#states[this.#at]; }
  get canUndo() { return this.#at > 0; }
  get canRedo() { return this.#at < this.#states.length - 1; }

  push(state) {
    this.#states = [...this.#states.slice(0, ++this.#at), state].slice(-200);
    this.#at = this.#states.length - 1;
  }
  /** In the place of what is shown, with no way back to it: for what is no deed of the user's. */
  replace(state) { this.#states[this.#at] = state; }
  undo() { if (this.canUndo) this.#at--; }
  redo() { if (this.canRedo) this.#at++; }
}

export const active = (state) => state.objects.find((object) => object.id === state.active) ?? null;
export const chosen = (object) => object.masks[object.chosen] ?? null;
export const withMask = (state) => state.objects.filter(chosen);

/** The object that the next click speaks of: the active one, or a new one. */
export function target(state) {
  const object = active(state);
  if (object) return [state, object];
  const id = state.next;
  const fresh = { id, name: `object ${id}`, colour: HUES[(id - 1) % HUES.length], points: [], box: null, masks: [], chosen: 0, result: null, description: "" };
  return [{ objects: [...state.objects, fresh], active: id, next: id + 1 }, fresh];
}

export const change = (state, id, what) => ({ ...state, objects: state.objects.map((o) => (o.id === id ? { ...o, ...what } : o)) });
export const activate = (state, id) => ({ ...state, active: id });
export const remove = (state, id) => ({ ...state, objects: state.objects.filter((o) => o.id !== id), active: state.active === id ? null : state.active });

/** What the server is asked about an object. */
export function promptOf(object) {
  const prompt = {};
  if (object.points.length) {
    prompt.points = object.points.map(({ x, y }) => [x, y]);
    prompt.labels = object.points.map(({ label }) => label);
  }
  if (object.box) prompt.boxes = object.box;
  return prompt;
}
