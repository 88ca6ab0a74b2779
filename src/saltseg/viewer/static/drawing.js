/* Drawing an image with its probability and the outlines of masks on a canvas, at whole multiples of its size. */

const SALT = [0, 114, 178]; // blue, as in the charts
const CASING = "rgba(0, 0, 0, 0.55)"; // around an outline, so that it is seen on any gray

/**
 * Draw an item.
 *
 * @param {HTMLCanvasElement} canvas takes the size of the picture.
 * @param item with height, width and the layers image and, if there is one, probability.
 * @param {number} zoom whole, 1 and up.
 * @param {number} opacity of the probability where it is 1, from 0 to 1.
 * @param {{mask: Uint8Array, color: string, width: number}[]} outlines from the lowest to the uppermost.
 */
export function draw(canvas, item, zoom, opacity, outlines) {
  canvas.width = item.width * zoom;
  canvas.height = item.height * zoom;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(blend(item, opacity), 0, 0, canvas.width, canvas.height);
  for (const outline of outlines) {
    const path = boundary(outline.mask, item.height, item.width, zoom);
    context.lineCap = "square";
    context.strokeStyle = CASING;
    context.lineWidth = outline.width + 2;
    context.stroke(path);
    context.strokeStyle = outline.color;
    context.lineWidth = outline.width;
    context.stroke(path);
  }
}

/** A canvas with the image in gray, and blue where there is probability. */
function blend(item, opacity) {
  const { image, probability } = item.layers;
  const pixels = new ImageData(item.width, item.height);
  for (let i = 0; i < image.length; i++) {
    const alpha = probability ? (opacity * probability[i]) / 255 : 0;
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = image[i] + alpha * (SALT[c] - image[i]);
    pixels.data[4 * i + 3] = 255;
  }
  return onCanvas(pixels);
}

/** A mask as a canvas of its own size: white is salt. */
export function maskPicture(mask, height, width) {
  const pixels = new ImageData(width, height);
  for (let i = 0; i < mask.length; i++) {
    for (let c = 0; c < 4; c++) pixels.data[4 * i + c] = c < 3 ? 255 * mask[i] : 255;
  }
  return onCanvas(pixels);
}

function onCanvas(pixels) {
  const canvas = document.createElement("canvas");
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

/** The lines between salt and rock. */
function boundary(mask, height, width, zoom) {
  const path = new Path2D();
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const here = mask[y * width + x];
      if (x > 0 && mask[y * width + x - 1] !== here) {
        path.moveTo(x * zoom, y * zoom);
        path.lineTo(x * zoom, (y + 1) * zoom);
      }
      if (y > 0 && mask[(y - 1) * width + x] !== here) {
        path.moveTo(x * zoom, y * zoom);
        path.lineTo((x + 1) * zoom, y * zoom);
      }
    }
  }
  return path;
}
