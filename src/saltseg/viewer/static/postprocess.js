/* Probabilities to masks, and masks to scores: the same numbers as saltseg.pipeline.folder.postprocess,
   saltseg.metrics.pixels and saltseg.metrics.average_precision give. Masks are Uint8Array {0, 1}, row by row. */

export const TILE_PIXELS = 101 * 101;

/**
 * The mask of an image.
 *
 * @param {Uint8Array} probability height * width, in 255ths.
 * @param {{threshold: number, hysteresis_high: number, min_area: number, fill_holes: boolean}} parameters
 *   In an image larger than a tile the minimum area removes single bodies, else it empties the image.
 */
export function postprocess(probability, height, width, parameters) {
  const { threshold, hysteresis_high: high, min_area: minArea, fill_holes: filled } = parameters;
  const each = probability.length > TILE_PIXELS;
  const mask = atLeast(probability, threshold);
  const strong = high > threshold ? atLeast(probability, high) : null;
  if (filled) fillHoles(mask, height, width); // a hole in strong salt lies in a body with strong pixels anyhow
  if (strong || (each && minArea > 1)) {
    keepBodies(mask, height, width, (pixels) => {
      if (each && pixels.length < minArea) return false;
      return !strong || pixels.some((pixel) => strong[pixel]);
    });
  }
  if (!each && count(mask) < minArea) mask.fill(0);
  return mask;
}

function atLeast(values, level) {
  const mask = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) mask[i] = values[i] >= level ? 1 : 0;
  return mask;
}

/** Turn rock that no 4-connected path of rock joins to the border into salt, in place. */
function fillHoles(mask, height, width) {
  const outside = new Uint8Array(mask.length);
  const queue = new Int32Array(mask.length);
  let end = 0;
  const add = (pixel) => {
    if (!mask[pixel] && !outside[pixel]) {
      outside[pixel] = 1;
      queue[end++] = pixel;
    }
  };
  for (let x = 0; x < width; x++) add(x), add((height - 1) * width + x);
  for (let y = 0; y < height; y++) add(y * width), add(y * width + width - 1);
  for (let begin = 0; begin < end; begin++) {
    const pixel = queue[begin];
    const x = pixel % width;
    if (x > 0) add(pixel - 1);
    if (x < width - 1) add(pixel + 1);
    if (pixel >= width) add(pixel - width);
    if (pixel + width < mask.length) add(pixel + width);
  }
  for (let i = 0; i < mask.length; i++) mask[i] = outside[i] ? 0 : 1;
}

/** Remove the 8-connected bodies that `keep`, given the pixels of one, refuses, in place. */
function keepBodies(mask, height, width, keep) {
  const queue = new Int32Array(mask.length);
  for (let start = 0; start < mask.length; start++) {
    if (mask[start] !== 1) continue;
    let end = 0;
    mask[start] = 2; // seen
    queue[end++] = start;
    for (let begin = 0; begin < end; begin++) {
      const x = queue[begin] % width;
      const y = (queue[begin] - x) / width;
      for (let row = Math.max(y - 1, 0); row <= Math.min(y + 1, height - 1); row++) {
        for (let column = Math.max(x - 1, 0); column <= Math.min(x + 1, width - 1); column++) {
          const pixel = row * width + column;
          if (mask[pixel] === 1) {
            mask[pixel] = 2;
            queue[end++] = pixel;
          }
        }
      }
    }
    const pixels = queue.subarray(0, end);
    if (!keep(pixels)) pixels.forEach((pixel) => (mask[pixel] = 0));
  }
  for (let i = 0; i < mask.length; i++) if (mask[i]) mask[i] = 1;
}

/** Salt pixels of a mask. */
export function count(mask) {
  let total = 0;
  for (let i = 0; i < mask.length; i++) total += mask[i];
  return total;
}

/** Precision, recall, IoU and the competition's score of one image, each 0 to 1. */
export function scores(predicted, truth) {
  let both = 0;
  for (let i = 0; i < truth.length; i++) both += predicted[i] & truth[i];
  const found = count(predicted);
  const salt = count(truth);
  const union = found + salt - both;
  const ratio = (above, below) => (below ? above / below : Number(union === 0));
  const passed = union ? Math.min(Math.max(Math.ceil((20 * both) / union) - 10, 0), 10) : 10;
  return { precision: ratio(both, found), recall: ratio(both, salt), iou: ratio(both, union), score: passed / 10 };
}
