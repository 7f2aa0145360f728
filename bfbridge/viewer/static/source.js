/** Where images come from: the HTTP server of bfbridge. The notebook has a source of its own. */

/** @import {FileInfo, Listing, Source, TileRequest, Values} from './types.js' */


/** Side of a tile, in pixels. */
export const SIDE = 512;

/** A request that was refused, with the reason in words for the user. */
export class SourceError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @param {ArrayBuffer} buffer @returns {Float32Array} */
function fromHalf(buffer) {
  return Float32Array.from(new Uint16Array(buffer), (bits) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -24 * fraction;
  });
}

/**
 * Return the values of a tile's channels. 64-bit integers become float64.
 * @param {ArrayBuffer} buffer @param {string} dtype @param {number} count
 * @returns {Values[]}
 */
export function decode(buffer, dtype, count) {
  /** @type {Record<string, new (b: ArrayBuffer) => Values>} */
  const kinds = {
    uint8: Uint8Array, bool: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array,
    uint32: Uint32Array, int32: Int32Array, float32: Float32Array, float64: Float64Array,
  };
  /** @type {Values} */
  let values;
  if (dtype === 'float16') values = fromHalf(buffer);
  else if (dtype === 'uint64') values = Float64Array.from(new BigUint64Array(buffer), Number);
  else if (dtype === 'int64') values = Float64Array.from(new BigInt64Array(buffer), Number);
  else if (kinds[dtype]) values = new kinds[dtype](buffer);
  else throw new SourceError(0, `Pixels of type ${dtype} cannot be shown.`);
  const length = values.length / count;
  return Array.from({length: count}, (_, i) => values.subarray(i * length, (i + 1) * length));
}

/** @param {string} name */
export const encoded = (name) => name.split('/').map(encodeURIComponent).join('/');

/** The HTTP interface of `bfbridge serve`. @implements {Source} */
export class HttpSource {
  /** @param {string} root URL of the server's first page, with a slash at the end. */
  constructor(root) {
    this.root = root;
  }

  /** @param {string} path @param {AbortSignal} [signal] */
  async fetch(path, signal) {
    for (let attempt = 0; ; attempt++) {
      const response = await fetch(this.root + path, {signal});
      if (response.ok) return response;
      const wait = Number(response.headers.get('Retry-After'));
      if (response.status === 503 && wait && attempt < 4) {
        await new Promise((resolve) => setTimeout(resolve, Math.min(wait, 5) * 1000));
        signal?.throwIfAborted();
        continue;
      }
      const reply = await response.json().catch(() => ({error: response.statusText}));
      throw new SourceError(response.status, reply.error);
    }
  }

  /** @param {string} file @param {number} series @returns {Promise<FileInfo>} */
  async info(file, series) {
    return (await this.fetch(`info/${encoded(file)}?series=${series}`)).json();
  }

  /** @param {string} file @param {number} series @param {number[]} channels @param {number} [z] @param {number} [t] */
  async histogram(file, series, channels, z, t) {
    const plane = z === undefined ? '' : `&z=${z}&t=${t}`;
    const path = `histogram/${encoded(file)}/${series}?c=${channels}${plane}`;
    return (await (await this.fetch(path)).json()).channels;
  }

  /** @param {string} file @param {string} version @param {TileRequest} tile @param {AbortSignal} signal */
  async raw(file, version, tile, signal) {
    const place = [tile.series, tile.level, tile.t, tile.z, tile.row, tile.column].join('/');
    const query = `c=${tile.channels}&size=${SIDE}&v=${version}`;
    const response = await this.fetch(`raw/${encoded(file)}/${place}?${query}`, signal);
    const dtype = response.headers.get('X-Bfbridge-Dtype') ?? '';
    return decode(await response.arrayBuffer(), dtype, tile.channels.length);
  }

  /** @param {'ome'|'metadata'} route @param {string} file */
  async text(route, file) {
    return (await this.fetch(`${route}/${encoded(file)}`)).text();
  }

  /** @param {string} file @param {number} series @param {number} size */
  thumbnail(file, series, size) {
    return `${this.root}thumbnail/${encoded(file)}/${series}.webp?size=${size}`;
  }

  /** @param {string} folder @returns {Promise<Listing>} */
  async list(folder) {
    return (await this.fetch(`list/${encoded(folder)}`)).json();
  }

  /** Whether the server answers. */
  async alive() {
    try {
      return (await fetch(`${this.root}list/`, {cache: 'no-store'})).status < 500;
    } catch {
      return false;
    }
  }
}
