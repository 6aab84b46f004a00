// Images on a canvas, and a brush that paints them. Images are arrays [d] of numbers
// in [0, 1], pixel after pixel, the channels of a pixel side by side.

const UNKNOWN = [70, 105, 170];
const INFUSED = [255, 140, 0];

// Draws an image; marked(pixel) may give a colour and its share of the pixel.
function draw(canvas, model, image, marked = () => null) {
  const [height, width, channels] = model.imageShape;
  const shown = new ImageData(width, height);
  for (let pixel = 0; pixel < height * width; pixel++) {
    const [colour, share] = marked(pixel) || [INFUSED, 0];
    for (let c = 0; c < 3; c++) {
      const value = image[pixel * channels + Math.min(c, channels - 1)];
      shown.data[4 * pixel + c] = share * colour[c] + (1 - share) * 255 * value;
    }
    shown.data[4 * pixel + 3] = 255;
  }
  Object.assign(canvas, {width, height});
  canvas.getContext("2d").putImageData(shown, 0, 0);
}

// What a person has painted: an image, and which pixels are known (0 or 1).
function emptyPainting(model) {
  const [height, width, channels] = model.imageShape;
  return {
    image: new Float32Array(height * width * channels),
    known: new Uint8Array(height * width),
  };
}

// The rows above `lastRow` of an image, known; the rest is not.
function copied(model, image, lastRow) {
  const painting = emptyPainting(model);
  painting.known.fill(1, 0, lastRow * model.imageShape[1]);
  painting.image.set(image);
  return painting;
}

// A round, soft-edged dab of the brush at (x, y), in pixels of the image.
function dab(model, painting, x, y, tool) {
  const [height, width] = model.imageShape;
  const radius = Math.max(0.5, 0.045 * width);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const distance = Math.hypot(column + 0.5 - x, row + 0.5 - y);
      const strength = Math.min(1, 1.5 * (radius + 0.5 - distance));
      if (strength > 0.25) touch(model, painting, row * width + column, tool, strength);
    }
  }
}

function touch(model, painting, pixel, tool, strength) {
  const channels = model.imageShape[2];
  const before = painting.known[pixel] ? painting.image[pixel * channels] : 0;
  const after = {bright: Math.max(before, strength), dark: 0, erase: 0}[tool];
  painting.image.fill(after, pixel * channels, (pixel + 1) * channels);
  painting.known[pixel] = tool === "erase" ? 0 : 1;
}

// Calls painted(x, y) along the way of a pressed pointer, and ended() after it.
function followPointer(canvas, painted, ended) {
  let last = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * canvas.width,
      ((event.clientY - box.top) / box.height) * canvas.height,
    ];
  };
  const move = (event) => {
    const [x, y] = place(event);
    const [fromX, fromY] = last || [x, y];
    const count = Math.max(1, Math.ceil(2 * Math.hypot(x - fromX, y - fromY)));
    for (let i = 1; i <= count; i++) {
      painted(fromX + ((x - fromX) * i) / count, fromY + ((y - fromY) * i) / count);
    }
    last = [x, y];
  };
  const end = () => {
    if (last) ended();
    last = null;
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    move(event);
  });
  canvas.addEventListener("pointermove", (event) => last && move(event));
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
}
