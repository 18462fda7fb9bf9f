// Masks as COCO's run lengths, and as pictures to be drawn.
// Format: https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c (rleFrString)

/** COCO's string -> run lengths: zeros, ones, zeros, ... column by column. */
export function runs(counts) {
  const lengths = [];
  for (let i = 0; i < counts.length; ) {
    let value = 0, shift = 0, more = true, digit = 0;
    while (more) {
      digit = counts.charCodeAt(i++) - 48;
      value += (digit & 31) * 2 ** shift;
      more = (digit & 32) !== 0;
      shift += 5;
    }
    if (digit & 16) value -= 2 ** shift;
    if (lengths.length > 2) value += lengths[lengths.length - 2];
    lengths.push(value);
  }
  return lengths;
}

/** A mask -> {width, height, data}, row by row, 0 or 1; every `step`-th pixel of every `step`-th column. */
export function raster({ size: [height, width], counts }, step = 1) {
  const w = Math.ceil(width / step), h = Math.ceil(height / step);
  const data = new Uint8Array(w * h);
  let at = 0, on = false;
  for (const length of runs(counts)) {
    if (on) fill(at, at + length);
    at += length;
    on = !on;
  }
  return { width: w, height: h, data };

  function fill(from, to) {
    for (let x = Math.floor(from / height); x * height < to; x++) {
      if (x % step) continue;
      const top = Math.max(0, from - x * height), bottom = Math.min(height, to - x * height);
      for (let y = Math.ceil(top / step); y * step < bottom; y++) data[y * w + x / step] = 1;
    }
  }
}

/** Whether a pixel belongs to a mask. */
export function holds({ size: [height], counts }, x, y) {
  const place = Math.floor(x) * height + Math.floor(y);
  let at = 0, on = false;
  for (const length of runs(counts)) {
    at += length;
    if (place < at) return on;
    on = !on;
  }
  return false;
}

/** A raster as a canvas: tinted inside, and a line of the full colour along its border. */
export function tinted(mask, [r, g, b], alpha = 110, border = true) {
  const { width, height, data } = mask;
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer); // little-endian: ABGR
  const inside = ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
  const line = ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!data[i]) continue;
      const edge = border && (!data[i - 1] || !data[i + 1] || !data[i - width] || !data[i + width]) && x > 0 && x < width - 1;
      pixels[i] = edge ? line : inside;
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const LARGEST = 1600; // pixels of a side that masks are drawn with on the screen

/** A mask's tinted picture; made once for each colour. */
const drawn = new WeakMap();
export function picture(mask, colour) {
  const known = drawn.get(mask);
  if (known?.colour === colour) return known.canvas;
  const step = Math.max(1, Math.ceil(Math.max(...mask.rle.size) / LARGEST));
  const canvas = tinted(raster(mask.rle, step), colour);
  drawn.set(mask, { colour, canvas });
  return canvas;
}
