// The mask under the pointer, while it moves: one question at a time, always about the last place.

export class Hover {
  /** ask(x, y) -> a promise of {score, rle}; show(rle or null). */
  constructor(ask, show) {
    this.ask = ask;
    this.show = show;
    this.place = null;
    this.running = false;
  }

  at(x, y) {
    this.place = x === null ? null : [x, y];
    if (!this.place) { this.show(null); return; }
    if (!this.running) this.run();
  }

  async run() {
    this.running = true;
    for (let asked = null; this.place && this.place !== asked; ) {
      asked = this.place;
      try {
        const found = await this.ask(...asked);
        if (this.place) this.show(found.rle);
      } catch {
        this.show(null); // a click will say what is wrong
      }
    }
    this.running = false;
  }
}
