// What people take away: cut-outs and masks as PNG, COCO's JSON; as files and on the clipboard.

const painter = new Worker("/assets/painter.js", { type: "module" });
const waiting = new Map(); // what the worker was asked for, by number
let asked = 0;

painter.onmessage = ({ data: { id, blob, error } }) => {
  const one = waiting.get(id);
  waiting.delete(id);
  if (blob) one?.resolve(blob);
  else one?.reject(new Error(error));
};
painter.onerror = () => {
  for (const { reject } of waiting.values()) reject(new Error("The picture could not be made; reload the page."));
  waiting.clear();
};

function painted(masks, bitmap = null) {
  return new Promise((resolve, reject) => {
    waiting.set(++asked, { resolve, reject });
    painter.postMessage({ id: asked, bitmap, masks: masks.map(({ rle }) => rle) });
  });
}

/** The objects alone, transparent around them, of the picture's size. */
export const cutout = (bitmap, masks) => painted(masks, bitmap);

/** White where the objects are, black elsewhere. */
export const maskPicture = (masks) => painted(masks);

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
