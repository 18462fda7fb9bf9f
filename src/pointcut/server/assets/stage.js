// The picture on the screen: what is drawn, where it is, and what a hand does on it. Knows nothing of the server.

import { picture, raster, tinted } from "./rle.js";

const GREEN = "#0bbf5a", RED = "#e5283f";

export class Stage {
  /** acts: add(x, y), exclude(x, y), box([x0, y0, x1, y1]), hover(x, y) or hover(null); coordinates are the picture's. */
  constructor(root, acts) {
    this.root = root;
    this.base = root.querySelector("#base");
    this.over = root.querySelector("#over");
    this.acts = acts;
    this.tool = "add";
    this.view = { scale: 1, x: 0, y: 0 };
    this.bitmap = null;
    this.layers = [];  // {mask, colour, faint}
    this.marks = [];   // {points, box}
    this.preview = null;
    this.cross = null; // the keyboard's pointer
    this.draft = null; // a box that is being drawn
    this.cornered = null; // its first corner, by keyboard
    this.pointers = new Map();
    this.watch();
  }

  get size() { return this.bitmap ? [this.bitmap.width, this.bitmap.height] : [0, 0]; }

  show(bitmap, keepView = false) {
    this.bitmap = bitmap;
    this.preview = this.draft = this.cornered = null;
    if (!keepView) { this.cross = null; this.fit(); } else this.paint();
  }

  fit() {
    const [width, height] = this.size;
    if (!width) return;
    const room = this.root.getBoundingClientRect(), [above, below] = [72, 64]; // the tools; the hint or the time line
    const scale = Math.max(0.02, Math.min((room.width - 24) / width, (room.height - above - below) / height));
    this.view = { scale, x: (room.width - width * scale) / 2, y: above + (room.height - above - below - height * scale) / 2 };
    this.paint();
  }

  zoom(factor, x = this.root.clientWidth / 2, y = this.root.clientHeight / 2) {
    const { view } = this, scale = Math.min(40, Math.max(0.02, view.scale * factor));
    this.view = { scale, x: x - (x - view.x) * (scale / view.scale), y: y - (y - view.y) * (scale / view.scale) };
    this.paint();
  }

  /** The pixel under a place on the screen, or null outside the picture. */
  pixel(x, y) {
    const [width, height] = this.size;
    const px = Math.floor((x - this.view.x) / this.view.scale), py = Math.floor((y - this.view.y) / this.view.scale);
    return px >= 0 && py >= 0 && px < width && py < height ? [px, py] : null;
  }

  inside(x, y) {
    const [width, height] = this.size;
    return [Math.min(width, Math.max(0, (x - this.view.x) / this.view.scale)), Math.min(height, Math.max(0, (y - this.view.y) / this.view.scale))];
  }

  // Drawing

  paint() { this.asked ??= requestAnimationFrame(() => { this.asked = null; this.paintBase(); this.paintOver(); }); }

  context(canvas) {
    const ratio = devicePixelRatio, { clientWidth, clientHeight } = canvas;
    const width = Math.round(clientWidth * ratio), height = Math.round(clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.setTransform(this.view.scale * ratio, 0, 0, this.view.scale * ratio, this.view.x * ratio, this.view.y * ratio);
    context.imageSmoothingEnabled = this.view.scale < 3;
    return context;
  }

  paintBase() {
    const context = this.context(this.base), [width, height] = this.size;
    if (!this.bitmap) return;
    context.drawImage(this.bitmap, 0, 0);
    for (const { mask, colour, faint } of this.layers) {
      context.globalAlpha = faint ? 0.75 : 1;
      context.drawImage(picture(mask, colour), 0, 0, width, height);
    }
    context.globalAlpha = 1;
    for (const mark of this.marks) this.paintMark(context, mark);
  }

  paintOver() {
    const context = this.context(this.over), [width, height] = this.size, unit = 1 / this.view.scale;
    if (this.preview) context.drawImage(this.preview, 0, 0, width, height);
    if (this.draft) this.paintMark(context, { points: [], box: this.draft });
    if (this.cross) {
      const [x, y] = [this.cross[0] + 0.5, this.cross[1] + 0.5];
      for (const [colour, thick] of [["#fff", 4], ["#000", 1.6]]) {
        context.strokeStyle = colour;
        context.lineWidth = thick * unit;
        context.beginPath();
        context.moveTo(x - 14 * unit, y); context.lineTo(x + 14 * unit, y);
        context.moveTo(x, y - 14 * unit); context.lineTo(x, y + 14 * unit);
        context.stroke();
      }
    }
  }

  paintMark(context, { points, box }) {
    const unit = 1 / this.view.scale;
    if (box) {
      const [x0, y0, x1, y1] = box;
      for (const [colour, thick] of [["#fff", 4], [GREEN, 2]]) {
        context.strokeStyle = colour;
        context.lineWidth = thick * unit;
        context.strokeRect(x0, y0, x1 - x0, y1 - y0);
      }
    }
    for (const { x, y, label } of points) {
      context.beginPath();
      context.arc(x + 0.5, y + 0.5, 7 * unit, 0, 7);
      context.fillStyle = label ? GREEN : RED;
      context.fill();
      context.strokeStyle = "#fff";
      context.lineWidth = 2 * unit;
      context.stroke();
      context.beginPath();
      context.moveTo(x + 0.5 - 3.5 * unit, y + 0.5); context.lineTo(x + 0.5 + 3.5 * unit, y + 0.5);
      if (label) { context.moveTo(x + 0.5, y + 0.5 - 3.5 * unit); context.lineTo(x + 0.5, y + 0.5 + 3.5 * unit); }
      context.stroke();
    }
  }

  /** Lights up what lies under the pointer: a small mask (run lengths), or nothing. */
  light(rle, colour) {
    this.preview = rle ? tinted(raster(rle), colour, 120, false) : null;
    this.paintOver();
  }

  // Hands

  watch() {
    const { over } = this;
    new ResizeObserver(() => { if (!this.fitted) this.fit(); this.fitted = !!this.bitmap; this.paint(); }).observe(this.root);
    over.addEventListener("contextmenu", (event) => event.preventDefault());
    over.addEventListener("pointerdown", (event) => this.down(event));
    over.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) over.addEventListener(end, (event) => this.up(event, end === "pointerup"));
    over.addEventListener("pointerleave", () => this.acts.hover(null));
    over.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.offsetX, event.offsetY);
    }, { passive: false });
  }

  down(event) {
    if (!this.bitmap) return;
    this.over.setPointerCapture(event.pointerId);
    this.cross = null;
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.pointers.size === 2) { this.press = null; this.draft = null; this.pinch = this.spread(); return; }
    const touch = event.pointerType === "touch";
    const pan = event.button === 1 || this.held || this.tool === "pan" || (touch && this.tool !== "box");
    this.press = { x: event.offsetX, y: event.offsetY, view: this.view, pan, touch, moved: false, right: event.button === 2 || event.altKey || event.ctrlKey };
  }

  move(event) {
    if (!this.bitmap) return;
    const [x, y] = [event.offsetX, event.offsetY];
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, [x, y]);
    if (this.pinch) {
      const [before, now] = [this.pinch, this.spread()];
      this.view = { ...this.view, x: this.view.x + now.x - before.x, y: this.view.y + now.y - before.y };
      this.zoom(now.distance / before.distance, now.x, now.y);
      this.pinch = now;
      return;
    }
    const { press } = this;
    if (!press) { const pixel = event.pointerType === "touch" ? null : this.pixel(x, y); this.acts.hover(...(pixel ?? [null])); return; }
    if (!press.moved && Math.hypot(x - press.x, y - press.y) < (press.touch ? 10 : 5)) return;
    press.moved = true;
    this.acts.hover(null);
    if (press.pan) {
      this.view = { ...press.view, x: press.view.x + x - press.x, y: press.view.y + y - press.y };
      this.paint();
    } else {
      this.draft = ordered(this.inside(press.x, press.y), this.inside(x, y));
      this.paintOver();
    }
  }

  up(event, meant) {
    this.pointers.delete(event.pointerId);
    if (this.pinch) { if (!this.pointers.size) this.pinch = null; return; }
    const { press, draft } = this;
    this.press = this.draft = null;
    if (!press || !meant) { this.paintOver(); return; }
    if (draft) {
      this.paintOver();
      if (draft[2] - draft[0] >= 2 && draft[3] - draft[1] >= 2) this.acts.box(draft);
    } else if (!press.moved && this.tool !== "pan" && !this.held && event.button !== 1) {
      const pixel = this.pixel(press.x, press.y);
      if (pixel) this.acts[press.right || this.tool === "exclude" ? "exclude" : "add"](...pixel);
    }
  }

  spread() {
    const [[x0, y0], [x1, y1]] = [...this.pointers.values()];
    return { x: (x0 + x1) / 2, y: (y0 + y1) / 2, distance: Math.max(1, Math.hypot(x1 - x0, y1 - y0)) };
  }

  // The keyboard's pointer

  step(dx, dy) {
    const [width, height] = this.size;
    const [x, y] = this.cross ?? [width >> 1, height >> 1];
    this.cross = this.cross ? [Math.min(width - 1, Math.max(0, x + dx)), Math.min(height - 1, Math.max(0, y + dy))] : [x, y];
    if (this.cornered) this.draft = ordered(this.cornered, this.cross);
    this.paintOver();
    this.acts.hover(...this.cross);
  }

  /** A corner of a box at the cross: the first time one, the second time the opposite one. */
  corner() {
    if (!this.cross) this.step(0, 0);
    if (!this.cornered) { this.cornered = this.cross; return; }
    const box = ordered(this.cornered, this.cross);
    this.cornered = this.draft = null;
    this.paintOver();
    if (box[2] > box[0] && box[3] > box[1]) this.acts.box(box);
  }
}

function ordered([x0, y0], [x1, y1]) {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
}
