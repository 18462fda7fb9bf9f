// What people take away: cut-outs and masks as PNG, COCO's JSON; as files and on the clipboard.

import { raster } from "./rle.js";

/** The union of masks, of the picture's size. */
function union(masks) {
  const [first, ...rest] = masks.map(({ rle }) => raster(rle));
  for (const { data } of rest) for (let i = 0; i < data.length; i++) first.data[i] |= data[i];
  return first;
}

function canvasOf(width, height, paint) {
  const canvas = new OffscreenCanvas(width, height);
  paint(canvas.getContext("2d"));
  return canvas.convertToBlob({ type: "image/png" });
}

/** The objects alone, transparent around them, of the picture's size. */
export function cutout(bitmap, masks) {
  const { width, height, data } = union(masks);
  return canvasOf(width, height, (context) => {
    context.drawImage(bitmap, 0, 0);
    const image = context.getImageData(0, 0, width, height);
    for (let i = 0; i < data.length; i++) if (!data[i]) image.data.fill(0, 4 * i, 4 * i + 4);
    context.putImageData(image, 0, 0);
  });
}

/** White where the objects are, black elsewhere. */
export function maskPicture(masks) {
  const { width, height, data } = union(masks);
  return canvasOf(width, height, (context) => {
    const image = context.createImageData(width, height);
    for (let i = 0; i < data.length; i++) { image.data.fill(data[i] * 255, 4 * i, 4 * i + 3); image.data[4 * i + 3] = 255; }
    context.putImageData(image, 0, 0);
  });
}

/** A COCO dataset of one picture; the names of objects are its categories. */
export function coco(file, [height, width], objects) {
  const names = [...new Set(objects.map(({ name }) => name))];
  const dataset = {
    images: [{ id: 1, file_name: file, height, width }],
    annotations: objects.map(({ name, description, mask }, i) => {
      const [x0, y0, x1, y1] = mask.box_xyxy;
      return { id: i + 1, image_id: 1, category_id: names.indexOf(name) + 1, segmentation: mask.rle, area: mask.area, bbox: [x0, y0, x1 - x0, y1 - y0], iscrowd: 0, score: mask.score, ...(description ? { description } : {}) };
    }),
    categories: names.map((name, i) => ({ id: i + 1, name })),
  };
  return new Blob([JSON.stringify(dataset, null, 1)], { type: "application/json" });
}

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export const copy = (blob) => navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
