// A worker that makes PNG files of masks: { id, bitmap, masks } or { id, masks } -> { id, blob } or { id, error }. On the page itself
// a browser encodes pictures only while it has nothing else to do, which on a slow machine took up to seven seconds.

import { raster } from "./rle.js";

/** The union of masks in COCO's encoding, of the picture's size. */
function union(masks) {
  const [first, ...rest] = masks.map((rle) => raster(rle));
  for (const { data } of rest) for (let i = 0; i < data.length; i++) first.data[i] |= data[i];
  return first;
}

/** The objects alone, transparent around them; without a bitmap white where they are, black elsewhere. */
function painted(bitmap, masks) {
  const { width, height, data } = union(masks);
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
  if (bitmap) context.drawImage(bitmap, 0, 0);
  const image = context.getImageData(0, 0, width, height);
  for (let i = 0; i < data.length; i++) {
    if (!bitmap) { image.data.fill(data[i] * 255, 4 * i, 4 * i + 3); image.data[4 * i + 3] = 255; }
    else if (!data[i]) image.data.fill(0, 4 * i, 4 * i + 4);
  }
  context.putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

onmessage = async ({ data: { id, bitmap, masks } }) => {
  try {
    postMessage({ id, blob: await painted(bitmap, masks) });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
};
