"use strict";
// The points of a map, on a canvas below Bokeh's: drawn by WebGL with a graphics card, otherwise pixel by pixel by this script,
// which is faster than WebGL emulated in software. The page sets which points are visible, their positions and their colours.

const DIM = 20, STRONG = 205;  // alpha of 255: points outside a selection, and all others
const MARGIN = 0.25;  // of width and height on each side: how far a drawn image can be moved
const REST_MS = 150;
const AWAY = 1e6;  // outside every view, instead of NaN, which WebGL does not define
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

class Cloud {
  // `drawn` is "webgl" or "pixels"; any other value selects automatically.
  constructor(element, { size, view, drawn }) {
    this.element = element; this.size = size; this.view = view; this.waiting = false;
    this.x = this.y = new Float32Array(0);
    this.colour = new Uint32Array(0);
    this.marked = null;
    this.ringed = -1;
    this.circle = make("i", { className: "ring", hidden: true });
    this.element.append(this.circle);
    this.begin(drawn === "pixels" ? null : Shader.on(make("canvas"), drawn === "webgl"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.painter.painted = false; this.draw(); });
  }

  begin(shader) {
    this.painter = shader || new Raster(make("canvas"));
    const { canvas } = this.painter;
    canvas.className = "cloud";
    canvas.setAttribute("aria-hidden", "true");
    this.element.querySelector(".cloud")?.remove();
    this.element.prepend(canvas);
    if (shader) canvas.addEventListener("webglcontextlost", () => { this.begin(null); this.draw(); });
  }

  get drawn() { return this.painter.name; }

  place(x, y) { this.x = x; this.y = y; this.painter.placed = false; this.draw(); }

  // `colour` is 0xBBGGRR for each row.
  paint(colour) { this.colour = colour; this.painter.painted = false; this.draw(); }

  // A ring around one point, or around none (-1).
  ring(row) { this.ringed = row; this.draw(); }

  // Highlights `rows` and fades the others; without rows all look the same.
  mark(rows) {
    this.marked = null;
    if (rows.size) {
      this.marked = new Uint8Array(this.x.length);
      for (const row of rows) this.marked[row] = 1;
    }
    this.painter.painted = false;
    this.draw();
  }

  // Draws once at the next frame, however often it is called.
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.now(); });
  }

  now() {
    const { clientWidth: width, clientHeight: height } = this.element, view = this.view();
    if (!width || !height || this.colour.length !== this.x.length) return;
    this.painter.paint(this, view, { width, height, scale: Math.min(2, devicePixelRatio || 1) });
    const x = (this.x[this.ringed] - view.left) / (view.right - view.left) * width;
    const y = (view.top - this.y[this.ringed]) / (view.top - view.bottom) * height;
    this.circle.hidden = !(x >= 0 && y >= 0 && x <= width && y <= height);
    if (!this.circle.hidden) this.circle.style.transform = `translate(${x}px, ${y}px)`;
  }
}

// Sets the size of a canvas on the page and in pixels; returns whether it changed.
function fit(canvas, { width, height, scale }, margin = 0) {
  const inner = 1 + 2 * margin, across = Math.round(width * inner * scale), down = Math.round(height * inner * scale);
  if (canvas.width === across && canvas.height === down) return false;
  Object.assign(canvas, { width: across, height: down });
  Object.assign(canvas.style, { left: `${-margin * width}px`, top: `${-margin * height}px`, width: `${width * inner}px`, height: `${height * inner}px` });
  return true;
}

// Discs blended into an image, at positions rounded to a quarter of a pixel, so that they do not jitter. The image is larger than
// the view. While the map moves, the image is translated as a whole, and redrawn when the margin ends or the map rests.
class Raster {
  constructor(canvas) {
    this.name = "pixels"; this.canvas = canvas; this.placed = this.painted = false;
    this.context = canvas.getContext("2d", { alpha: false });
  }

  paint(cloud, view, box) {
    const size = cloud.size * box.scale, resized = fit(this.canvas, box, MARGIN);
    if (resized || this.size !== size) this.prepare(size);
    clearTimeout(this.later);
    if (this.placed && this.painted && !resized && this.moved(view, box)) {
      if (this.canvas.style.transform) this.later = setTimeout(() => { this.placed = false; cloud.draw(); }, REST_MS);
      return;
    }
    const wide = MARGIN * (view.right - view.left), high = MARGIN * (view.top - view.bottom);
    const [red, green, blue] = getComputedStyle(cloud.element.parentElement).backgroundColor.match(/[\d.]+/g);
    this.pixels.fill((255 << 24 | blue << 16 | green << 8 | red) >>> 0);
    const whole = { left: view.left - wide, right: view.right + wide, bottom: view.bottom - high, top: view.top + high };
    if (cloud.marked) this.pass(cloud, whole, 0, "dim");
    this.pass(cloud, whole, 1, "strong");
    this.context.putImageData(this.image, -this.edge, -this.edge);
    this.canvas.style.transform = "";
    this.drawn = view;
    this.placed = this.painted = true;
  }

  // Translates the image to a view, if the view has the same scale and lies within the margin.
  moved({ left, right, bottom, top }, { width, height }) {
    const across = right - left, dx = (this.drawn.left - left) / across * width, dy = (top - this.drawn.top) / (top - bottom) * height;
    const alike = Math.abs(across - (this.drawn.right - this.drawn.left)) < 1e-6 * across;
    if (!alike || Math.abs(dx) > MARGIN * width || Math.abs(dy) > MARGIN * height) return false;
    this.canvas.style.transform = dx || dy ? `translate(${dx}px, ${dy}px)` : "";
    return true;
  }

  prepare(size) {
    const { width, height } = this.canvas;
    this.size = size;
    this.edge = Math.ceil(size / 2) + 2;  // so that no point is drawn beyond the image
    this.image = new ImageData(width + 2 * this.edge, height + 2 * this.edge);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.discs = Array.from({ length: 16 }, (_, place) => this.disc(size / 2, (place % 4 + 0.5) / 4, ((place >> 2) + 0.5) / 4));
  }

  // The pixels of a disc around a position within a pixel: their offsets in the image and their coverage.
  disc(radius, fx, fy) {
    const reach = Math.ceil(radius + 1), steps = [], shares = [];
    for (let dy = -reach; dy <= reach; dy++) {
      for (let dx = -reach; dx <= reach; dx++) {
        const share = Math.min(1, radius + 0.5 - Math.hypot(dx + 0.5 - fx, dy + 0.5 - fy));
        if (share > 0.02) { steps.push(dy * this.image.width + dx); shares.push(share); }
      }
    }
    return { steps: Int32Array.from(steps), dim: Int32Array.from(shares, (share) => DIM * share),
             strong: Int32Array.from(shares, (share) => STRONG * share) };
  }

  pass({ x, y, colour, marked }, { left, right, bottom, top }, wanted, strength) {
    const { pixels, discs, edge } = this, across = this.image.width, { width, height } = this.canvas;
    const wide = width / (right - left), high = height / (top - bottom);
    for (let row = 0; row < x.length; row++) {
      if (marked !== null && marked[row] !== wanted) continue;
      const px = (x[row] - left) * wide, py = (top - y[row]) * high;
      if (!(px >= 0 && py >= 0 && px < width && py < height)) continue;  // false for NaN
      const i = px | 0, j = py | 0, disc = discs[((px - i) * 4 | 0) + 4 * ((py - j) * 4 | 0)];
      const { steps } = disc, shares = disc[strength], first = (j + edge) * across + i + edge;
      const own = colour[row], rb = own & 0xff00ff, g = own & 0xff00;
      for (let step = 0; step < steps.length; step++) {
        const at = first + steps[step], share = shares[step], rest = 256 - share, old = pixels[at];
        pixels[at] = 0xff000000 | (Math.imul(rb, share) + Math.imul(old & 0xff00ff, rest) + 0x800080) >>> 8 & 0xff00ff
          | (Math.imul(g, share) + Math.imul(old & 0xff00, rest) + 0x8000) >>> 8 & 0xff00;
      }
    }
  }
}

const VERTEX = `#version 300 es
uniform vec4 view; uniform float size; uniform float wanted;
in float x; in float y; in vec4 colour; in float marked; out vec4 tint;
void main() {
  tint = colour;
  gl_PointSize = size + 1.0;
  gl_Position = marked == wanted ? vec4((vec2(x, y) - view.xy) * view.zw - 1.0, 0.0, 1.0) : vec4(9.0, 9.0, 9.0, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision highp float;
uniform float size; uniform float strength; in vec4 tint; out vec4 seen;
void main() {
  float away = length(gl_PointCoord - 0.5) * (size + 1.0);
  seen = vec4(tint.rgb, 1.0) * strength * clamp(size / 2.0 + 0.5 - away, 0.0, 1.0);
}`;

class Shader {
  // Null without WebGL 2, or if it is emulated in software and `insists` is false.
  static on(canvas, insists) {
    const gl = canvas.getContext("webgl2", { failIfMajorPerformanceCaveat: !insists, antialias: false });
    if (!gl) return null;
    const known = gl.getExtension("WEBGL_debug_renderer_info");
    const renderer = gl.getParameter(known ? known.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
    return SOFTWARE.test(renderer) && !insists ? null : new Shader(canvas, gl);
  }

  constructor(canvas, gl) {
    this.name = "webgl"; this.canvas = canvas; this.gl = gl; this.placed = this.painted = false;
    const program = this.program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.buffers = Object.fromEntries(["x", "y", "colour", "marked"].map((name) => [name, gl.createBuffer()]));
  }

  give(name, values, width, kind, normalised) {
    const { gl } = this, place = gl.getAttribLocation(this.program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, width, kind, normalised, 0, 0);
  }

  paint({ x, y, colour, marked, size }, { left, right, bottom, top }, box) {
    const { gl } = this, set = (name) => gl.getUniformLocation(this.program, name);
    if (fit(this.canvas, box)) gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    if (!this.placed) {
      for (const [name, values] of [["x", x], ["y", y]]) {
        this.give(name, values.map((value) => (value === value ? value : AWAY)), 1, gl.FLOAT, false);
      }
    }
    if (!this.painted) {
      this.give("colour", new Uint8Array(colour.buffer), 4, gl.UNSIGNED_BYTE, true);
      this.give("marked", marked || new Uint8Array(x.length).fill(1), 1, gl.UNSIGNED_BYTE, false);
    }
    this.placed = this.painted = true;
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform4f(set("view"), left, bottom, 2 / (right - left), 2 / (top - bottom));
    gl.uniform1f(set("size"), size * box.scale);
    for (const [wanted, alpha] of marked ? [[0, DIM], [1, STRONG]] : [[1, STRONG]]) {
      gl.uniform1f(set("wanted"), wanted);
      gl.uniform1f(set("strength"), alpha / 255);
      gl.drawArrays(gl.POINTS, 0, x.length);
    }
  }
}
