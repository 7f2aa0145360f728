/** Values to colours with WebGL 2: the rules of `BioReader.render`, so that the picture is the same. */

/** @import {Matrix, Mode, Needs, Quad, Tile, Values} from './types.js' */

/** Planes that one pass draws. */
const MOST = 8;
/** Texels around each tile that repeat its neighbours, for interpolation without seams. */
export const PAD = 1;

const VERTEX = `#version 300 es
in vec2 corner;
uniform mat3 place;
uniform vec4 texels;
out vec2 texel;
void main() {
  texel = texels.xy + corner * texels.zw;
  gl_Position = vec4((place * vec3(corner, 1.0)).xy, 0.0, 1.0);
}`;


/**
 * The shader that draws planes. On processors, texture() and round() are faster than texelFetch() and roundEven(),
 * and vectors of four planes faster than each plane.
 * @param {'u'|'i'|'f'} kind @param {number} count @param {Mode} mode @param {Needs} needs
 */
function fragment(kind, count, mode, needs) {
  const scalar = {u: 'uint', i: 'int', f: 'float'}[kind];
  const sampler = {u: 'usampler2D', i: 'isampler2D', f: 'sampler2D'}[kind];
  const numbers = [...Array(count).keys()], groups = [...Array(Math.ceil(count / 4)).keys()];
  /** Shares of four planes, then the sum of their colours. @param {number} group */
  const shaded = (group) => `
    v = vec4(${[0, 1, 2, 3].map((i) => (group * 4 + i < count ? `value${group * 4 + i}()` : '0.0'))});
    ${kind === 'f' ? 'bvec4 none = isnan(v); v = mix(v, vec4(0.0), none);' : ''}
    s = clamp((v - lows[${group}]) * gains[${group}], 0.0, 1.0);
    ${needs.wide ? 's = round(s * 65534.0) / 65534.0;' : ''}
    ${needs.gamma ? `s = pow(s, gammas[${group}]);` : ''}
    ${needs.invert ? `s = mix(s, 1.0 - s, inverts[${group}]);` : ''}
    ${numbers.slice(group * 4, group * 4 + 4).map((i) => `${kind === 'f' ? `if (!none[${i % 4}]) ` : ''}sum += shade(s[${i % 4}], colors[${i}]);`).join('\n')}`;
  const cycle = {u: 'int((v - 1u) % 255u)', i: '(v > 0 ? (v - 1) % 255 : 254 - (-v) % 255)', f: 'int(mod(v - 1.0, 255.0))'};
  // Integers are subtracted as such: float32 has 24 bits.
  const difference = kind === 'f' ? 'return v;' : !needs.wide ? 'return float(v);'
    : `return v >= ${scalar}(b) ? float(uint(v) - uint(b)) : -float(uint(b) - uint(v));`;
  const drawn = mode === 'intensity' ? `
    vec3 sum = vec3(0.0);
    vec4 v, s;
    ${groups.map((group) => `{${shaded(group)}}`).join('\n')}
    color = vec4(sum / 255.0, 1.0);` : `
    ${scalar} v = texture(t0, nearest).r;
    ${mode === 'labels'
    ? `bool none = v == ${scalar}(0);
       int entry = none ? 0 : 1 + ${cycle[kind]};
       bool hit = picked != 0 && int(v) == picked;
       float alpha = none ? floorAlpha : hit ? 1.0 : picked != 0 ? opacity * 0.45 : opacity;`
    : `int entry = clamp(int(v), 0, entries - 1); float alpha = 1.0; bool hit = false;`}
    vec3 rgb = texelFetch(table, ivec2(entry & 255, entry >> 8), 0).rgb;
    color = vec4(hit ? mix(rgb, vec3(1.0), 0.35) : rgb, alpha);`;
  return `#version 300 es
precision highp float; precision highp int; precision highp ${sampler}; precision highp sampler2D;
${numbers.map((i) => `uniform ${sampler} t${i};`).join('\n')}
uniform vec4 lows[${groups.length}], gains[${groups.length}], gammas[${groups.length}], inverts[${groups.length}];
uniform vec4 colors[${count}];
uniform int bases[${count}];
uniform sampler2D palettes, table;
uniform float paletteRows, opacity, floorAlpha;
uniform int entries, picked;
uniform vec2 extent;
in vec2 texel;
out vec4 color;
vec2 nearest, first, unit, weight;
void locate() {
  unit = 1.0 / (extent + ${2 * PAD}.0);
  nearest = (clamp(texel, vec2(0.0), extent - 0.5) + ${PAD}.0) * unit;
  ${needs.smooth ? `
  vec2 p = clamp(texel, vec2(0.0), extent) + ${PAD}.0 - 0.5;
  first = floor(p);
  weight = p - first;
  first = (first + 0.5) * unit;` : ''}
}
float difference(${scalar} v, int b) { ${difference} }
${numbers.map((i) => `
float at${i}(vec2 p) { return difference(texture(t${i}, p).r, bases[${i}]); }
float value${i}() {
  ${needs.smooth ? `
  float mean = mix(mix(at${i}(first), at${i}(first + vec2(unit.x, 0.0)), weight.x),
                   mix(at${i}(first + vec2(0.0, unit.y)), at${i}(first + unit), weight.x), weight.y);
  return ${kind === 'f' ? `isnan(mean) ? at${i}(nearest) : mean` : 'mean'};` : `return at${i}(nearest);`}
}`).join('')}
vec3 shade(float share, vec4 tint) {
  ${needs.palette ? 'if (tint.a < 0.0)' : ''} return round(tint.rgb * share);
  vec2 place = vec2((share * 255.0 + 0.5) / 256.0, (tint.a + 0.5) / paletteRows);
  return round(texture(palettes, place).rgb * 255.0 * tint.r);
}
void main() {
  locate();${drawn}
}`;
}

/** @param {Values} values @returns {{kind: 'u'|'i'|'f', internal: 'R8UI'|'R8I'|'R16UI'|'R16I'|'R32UI'|'R32I'|'R32F', type: number}} */
function formatOf(values) {
  if (values instanceof Uint8Array) return {kind: 'u', internal: 'R8UI', type: 0x1401};
  if (values instanceof Int8Array) return {kind: 'i', internal: 'R8I', type: 0x1400};
  if (values instanceof Uint16Array) return {kind: 'u', internal: 'R16UI', type: 0x1403};
  if (values instanceof Int16Array) return {kind: 'i', internal: 'R16I', type: 0x1402};
  if (values instanceof Uint32Array) return {kind: 'u', internal: 'R32UI', type: 0x1405};
  if (values instanceof Int32Array) return {kind: 'i', internal: 'R32I', type: 0x1404};
  return {kind: 'f', internal: 'R32F', type: 0x1406};
}

/** Draws tiles on a canvas. */
export class Painter {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    const gl = canvas.getContext('webgl2', {alpha: false, antialias: false, depth: false});
    if (!gl) throw new Error('This browser offers no WebGL 2, which the viewer draws with. Switch hardware acceleration on, or use another browser.');
    this.gl = gl;
    this.canvas = canvas;
    const debug = gl.getExtension('WEBGL_debug_renderer_info');
    /** Whether the processor draws, not a graphics card. */
    this.software = /swiftshader|llvmpipe|softpipe|software|basic render/i.test(String(gl.getParameter(debug?.UNMASKED_RENDERER_WEBGL ?? gl.RENDERER)));
    /** @type {Map<string, {program: WebGLProgram, at: (name: string) => WebGLUniformLocation|null}>} */
    this.programs = new Map();
    this.paletteRows = 1;
    this.start();
  }

  /** Make what a new context needs. */
  start() {
    const gl = this.gl;
    this.programs.clear();
    const corners = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, corners);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    this.palettes = this.picture(new Uint8Array(256 * 4), 256, 1, gl.LINEAR);
    this.labels = this.picture(new Uint8Array(256 * 4), 256, 1, gl.NEAREST);
    this.colorTable = this.labels;
    this.entries = 256;
  }

  /** @param {Uint8Array} rgba @param {number} width @param {number} height @param {number} filter */
  picture(rgba, width, height, filter) {
    const gl = this.gl;
    const texture = /** @type {WebGLTexture} */ (gl.createTexture());
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, filter);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
    return texture;
  }

  /** @param {number[][][]} palettes 256 colours each @param {number[][]} labels 255 colours */
  setPalettes(palettes, labels) {
    const rgba = new Uint8Array(Math.max(1, palettes.length) * 1024).fill(255);
    palettes.forEach((colors, row) => colors.forEach((c, i) => rgba.set(c, row * 1024 + i * 4)));
    this.palettes = this.picture(rgba, 256, Math.max(1, palettes.length), this.gl.LINEAR);
    this.paletteRows = Math.max(1, palettes.length);
    const table = new Uint8Array(1024).fill(255);
    table.set([0, 0, 0]);
    labels.forEach((c, i) => table.set(c, (i + 1) * 4));
    this.labels = this.picture(table, 256, 1, this.gl.NEAREST);
  }

  /** @param {number[][]} colors of an indexed image */
  setColorTable(colors) {
    const rows = Math.ceil(colors.length / 256);
    const rgba = new Uint8Array(rows * 1024).fill(255);
    colors.forEach((c, i) => rgba.set(c, i * 4));
    this.colorTable = this.picture(rgba, 256, rows, this.gl.NEAREST);
    this.entries = colors.length;
  }

  /**
   * Return a texture of values, which have a border of PAD.
   * @param {Values} values @param {number} width without the border @param {number} height @param {number} offset
   * @returns {Tile}
   */
  upload(values, width, height, offset) {
    const gl = this.gl;
    const {kind, internal} = formatOf(values);
    const texture = /** @type {WebGLTexture} */ (gl.createTexture());
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl[internal], width + 2 * PAD, height + 2 * PAD);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
    const tile = {texture, kind, offset, width, height, stepped: values.BYTES_PER_ELEMENT > 2};
    this.replace(tile, values, 0, 0, width + 2 * PAD, height + 2 * PAD);
    return tile;
  }

  /** Send a part again. @param {Tile} tile @param {Values} values @param {number} x @param {number} y @param {number} w @param {number} h */
  replace(tile, values, x, y, w, h) {
    const gl = this.gl;
    const {kind, type} = formatOf(values);
    // float64 becomes float32 relative to the window's start, which keeps the digits that matter.
    const sent = values instanceof Float64Array ? Float32Array.from(values, (v) => v - tile.offset) : values;
    gl.bindTexture(gl.TEXTURE_2D, tile.texture);
    gl.pixelStorei(gl.UNPACK_ROW_LENGTH, tile.width + 2 * PAD);
    const start = y * (tile.width + 2 * PAD) + x;
    gl.texSubImage2D(gl.TEXTURE_2D, 0, x, y, w, h, kind === 'f' ? gl.RED : gl.RED_INTEGER, type, sent, start);
    gl.pixelStorei(gl.UNPACK_ROW_LENGTH, 0);
  }

  /** @param {'u'|'i'|'f'} kind @param {number} count @param {Mode} mode @param {Needs} needs */
  program(kind, count, mode, needs) {
    const key = [kind, count, mode, ...Object.values(needs)].join();
    const known = this.programs.get(key);
    if (known) return known;
    const gl = this.gl;
    const program = /** @type {WebGLProgram} */ (gl.createProgram());
    for (const [type, text] of /** @type {[number, string][]} */ ([[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragment(kind, count, mode, needs)]])) {
      const shader = /** @type {WebGLShader} */ (gl.createShader(type));
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost()) throw new Error(`shader: ${gl.getShaderInfoLog(shader)}`);
    }
    gl.bindAttribLocation(program, 0, 'corner');
    gl.linkProgram(program);
    /** @type {Map<string, WebGLUniformLocation|null>} */
    const places = new Map();
    const found = {program, at: (/** @type {string} */ name) => {
      if (!places.has(name)) places.set(name, gl.getUniformLocation(program, name));
      return places.get(name) ?? null;
    }};
    this.programs.set(key, found);
    return found;
  }

  /** Clear the canvas. @param {number[]} background red, green, blue, 0 to 255 */
  clear(background) {
    const gl = this.gl;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.disable(gl.BLEND);
    gl.clearColor(background[0] / 255, background[1] / 255, background[2] / 255, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
  }

  /**
   * Draw tiles.
   * @param {Quad[]} quads @param {Matrix} matrix image pixels to pixels of the canvas
   * @param {{mode: Mode, smooth: boolean, opacity?: number, picked?: number, over?: boolean}} options
   */
  draw(quads, matrix, options) {
    const gl = this.gl;
    for (const quad of quads) {
      for (let first = 0; first < quad.textures.length; first += MOST) {
        if (first) {
          gl.enable(gl.BLEND);
          gl.blendFunc(gl.ONE, gl.ONE);
        } else if (options.over) {
          gl.enable(gl.BLEND);
          gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
        } else gl.disable(gl.BLEND);
        this.pass(quad, first, Math.min(MOST, quad.textures.length - first), matrix, options);
      }
    }
  }

  /** @param {Quad} quad @param {number} first @param {number} count @param {Matrix} m @param {{mode: Mode, smooth: boolean, opacity?: number, picked?: number, over?: boolean}} options */
  pass(quad, first, count, m, options) {
    const gl = this.gl;
    const tiles = quad.textures.slice(first, first + count);
    const drawn = quad.looks.slice(first, first + count);
    const {program, at} = this.program(tiles[0].kind, count, options.mode, {
      smooth: options.smooth, wide: tiles[0].stepped, palette: drawn.some((l) => l.palette >= 0),
      gamma: drawn.some((l) => l.gamma !== 1), invert: drawn.some((l) => l.invert),
    });
    gl.useProgram(program);
    const size = 4 * Math.ceil(count / 4);
    const lows = new Float32Array(size), gains = new Float32Array(size), gammas = new Float32Array(size).fill(1), inverts = new Float32Array(size);
    const colors = new Float32Array(4 * count), bases = new Int32Array(count);
    tiles.forEach((tile, i) => {
      const look = drawn[i];
      const base = tile.kind === 'f' ? tile.offset : tile.stepped ? Math.trunc(look.low) : 0;
      bases[i] = tile.kind === 'f' ? 0 : base;
      lows[i] = look.low - base;
      gains[i] = 1 / (look.high - look.low || 1);
      gammas[i] = look.gamma;
      inverts[i] = Number(look.invert);
      const [r, g, b] = look.color;
      colors.set(look.palette < 0 ? [r * look.opacity, g * look.opacity, b * look.opacity, -1] : [look.opacity, 0, 0, look.palette], 4 * i);
      gl.activeTexture(gl.TEXTURE0 + i);
      gl.bindTexture(gl.TEXTURE_2D, tile.texture);
      gl.uniform1i(at(`t${i}`), i);
    });
    gl.uniform4fv(at('lows'), lows);
    gl.uniform4fv(at('gains'), gains);
    gl.uniform4fv(at('gammas'), gammas);
    gl.uniform4fv(at('inverts'), inverts);
    gl.uniform4fv(at('colors'), colors);
    gl.uniform1iv(at('bases'), bases);
    gl.activeTexture(gl.TEXTURE0 + MOST);
    gl.bindTexture(gl.TEXTURE_2D, this.palettes ?? null);
    gl.uniform1i(at('palettes'), MOST);
    gl.activeTexture(gl.TEXTURE0 + MOST + 1);
    gl.bindTexture(gl.TEXTURE_2D, (options.mode === 'indexed' ? this.colorTable : this.labels) ?? null);
    gl.uniform1i(at('table'), MOST + 1);
    gl.activeTexture(gl.TEXTURE0);
    gl.uniform1f(at('paletteRows'), this.paletteRows);
    gl.uniform1i(at('entries'), this.entries ?? 0);
    gl.uniform1f(at('opacity'), options.opacity ?? 1);
    gl.uniform1f(at('floorAlpha'), options.over ? 0 : 1);
    gl.uniform1i(at('picked'), options.picked ?? 0);
    gl.uniform2f(at('extent'), tiles[0].width, tiles[0].height);
    gl.uniform4f(at('texels'), ...quad.texels);
    const w = quad.right - quad.left, h = quad.bottom - quad.top;
    const sx = 2 / this.canvas.width, sy = -2 / this.canvas.height;
    const x = m[0] * quad.left + m[2] * quad.top + m[4], y = m[1] * quad.left + m[3] * quad.top + m[5];
    gl.uniformMatrix3fv(at('place'), false, [m[0] * w * sx, m[1] * w * sy, 0, m[2] * h * sx, m[3] * h * sy, 0, x * sx - 1, y * sy + 1, 1]);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  /** @param {Tile} tile */
  drop(tile) {
    this.gl.deleteTexture(tile.texture);
  }
}
