/** Types that modules share, for editors and tsc; nothing loads this file. */

// source.js
/** @typedef {Float32Array|Float64Array|Uint8Array|Int8Array|Uint16Array|Int16Array|Uint32Array|Int32Array} Values */
/** @typedef {{value: number, unit: string}|null} Quantity */
/** @typedef {{index: number, c: number[], name: string|null, color: string|null, active: boolean,
 *   window: [number, number], windowFromFile: boolean, emission: Quantity, excitation: Quantity}} ChannelInfo */
/** @typedef {{level: number, width: number, height: number, scale: number}} LevelInfo */
/** @typedef {{index: number, name: string|null, role: string, mask: boolean,
 *   sizes: Record<'T'|'C'|'Z'|'Y'|'X', number>, samples: number, dtype: string}} SeriesInfo */
/** @typedef {SeriesInfo & {rawDtype: string, pixelSize: Record<'x'|'y'|'z', Quantity>,
 *   levels: LevelInfo[], kind: 'intensity'|'rgb'|'indexed'|'labels', defaultZ: number,
 *   defaultT: number, channels: ChannelInfo[], colorTable: number[][]|null}} ImageInfo */
/** @typedef {{name: string, rows: number, columns: number,
 *   wells: {row: number, column: number, fields: number[]}[]}} PlateInfo */
/** @typedef {{name: string, version: string, backend: string, backendReason: string,
 *   series: SeriesInfo[], plates: PlateInfo[], image: ImageInfo}} FileInfo */
/** @typedef {{c: number, min: number, max: number, window: [number, number], binStart: number,
 *   binEnd: number, counts: number[]}} Histogram */
/** @typedef {{series: number, level: number, row: number, column: number, z: number, t: number,
 *   channels: number[]}} TileRequest */
/** @typedef {{folder: string, folders: string[], images: string[], truncated: boolean}} Listing */
/** @typedef {{
 *   info(file: string, series: number): Promise<FileInfo>,
 *   histogram(file: string, series: number, channels: number[], z?: number, t?: number): Promise<Histogram[]>,
 *   raw(file: string, version: string, tile: TileRequest, signal: AbortSignal): Promise<Values[]>,
 *   text(route: 'ome'|'metadata', file: string): Promise<string>,
 *   thumbnail?(file: string, series: number, size: number): string,
 *   list?(folder: string): Promise<Listing>,
 *   alive?(): Promise<boolean>}} Source */

// gl.js
/** @typedef {{low: number, high: number, gamma: number, invert: boolean, opacity: number,
 *   color: [number, number, number], palette: number}} Look  How one plane is drawn; palette -1 is none. */
/** @typedef {{textures: Tile[], looks: Look[], left: number, top: number, right: number,
 *   bottom: number, texels: [number, number, number, number]}} Quad  In image pixels, and texels of the tile. */
/** @typedef {{texture: WebGLTexture, kind: 'u'|'i'|'f', offset: number, width: number,
 *   height: number, stepped: boolean}} Tile  Values of more than 16 bits are rounded to 65 535 steps, as `render` does. */
/** @typedef {'intensity'|'labels'|'indexed'} Mode */
/** @typedef {[number, number, number, number, number, number]} Matrix  x' = a x + c y + e, y' = b x + d y + f. */
/** @typedef {{smooth: boolean, palette: boolean, gamma: boolean, wide: boolean, invert: boolean}} Needs  What a shader is able to do; without the rest it is faster. */

// tiles.js
/** @typedef {{z: number, t: number}} Plane */
/** @typedef {{level: number, row: number, column: number}} Place */
/** @typedef {{values: Values, width: number, height: number, tile: Tile|null, used: number, key: string}} Kept */
/** @typedef {{key: string, run: (signal: AbortSignal) => Promise<void>}} Job */

// viewer.js
/** @typedef {{active: boolean, color: string, palette: string|null, low: number, high: number,
 *   gamma: number, invert: boolean, opacity: number}} ChannelState */
/** @typedef {{series: number, opacity: number, picked: number}} OverlayState */
/** @typedef {{z: number, t: number, smooth: boolean, channels: ChannelState[],
 *   overlay: OverlayState|null, shapes: boolean}} State */
/** @typedef {{labels: number[][], names: string[], palettes: number[][][]}} Palettes */
/** @typedef {{points: [number, number][], closed: boolean, kind: string, text?: string, color?: string, fixed?: boolean}} Shape */
/** @typedef {{down(x: number, y: number): boolean, hover(x: number, y: number): void, drag(x: number, y: number): void,
 *   up(x: number, y: number, tap: boolean): boolean, end(): void, back(): void}} Tool */

// camera.js
/** @typedef {{x: number, y: number, zoom: number, angle: number, flip: boolean}} View
 * Centre in pixels of the full image, CSS pixels for one of its pixels, degrees clockwise, mirrored or not. */
/** @typedef {{width: number, height: number, ratio: number}} Frame  Of the window: CSS pixels, and device pixels for each of them. */

export {};
