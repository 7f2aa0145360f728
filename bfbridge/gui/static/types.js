/** Types that modules share, for editors and tsc; nothing loads this file. */

/** @typedef {{name: string, path: string}} Place */
/** @typedef {{name: string, path: string, kind: 'folder'|'image'|'file', label: string, size: number|null, modified: number}} Entry */
/** @typedef {{path: string, parent: string|null, parts: Place[], entries: Entry[], truncated: boolean}} Listing */

/** @typedef {{name: string, lossy: boolean, dtypes: string[], quality: [number, number, number]|null}} Compression */
/** @typedef {{name: string, label: string, suffix: string, compressions: Compression[], levels: boolean}} Format */
/** @typedef {'pyramid'|'verify'|'overwrite'} Switch */
/** @typedef {{formats: Format[], switches: Record<Switch, {help: string, on: boolean}>, places: Place[], start: string,
 *   chosen: string[], watched: boolean, reveals: boolean}} State */

/** @typedef {{value: number, unit: string}|null} Quantity */
/** @typedef {{index: number, name: string|null, role: string, sizes: Record<'X'|'Y'|'Z'|'C'|'T', number>, dtype: string,
 *   samples_per_pixel: number, pixel_size: Record<'x'|'y'|'z', Quantity>, magnification: {value: number, approximate: boolean}|null,
 *   channels: {name: string|null}[], levels: {sizes: Record<'X'|'Y', number>}[], picture: boolean}} Series */
/** @typedef {{path: string, name: string, folder?: boolean, view: string, backend: string, backend_reason: string, series: Series[],
 *   images: number, files: number, used_files: string[], bytes: number|null, interrupted: string|null}} Source */

/** @typedef {{error: string, type: string|null}} Failure */
/** @typedef {{target: string, images: number, bytes: number, verified: boolean|null, lost: string[]|null, view?: string}} Output */
/** @typedef {{number: number, state: 'waiting'|'running'|'done'|'failed'|'cancelled', cancelling: boolean, sources: string[], count: number,
 *   target: string, phase: string, current: string, files: number, ended: number, fraction: number, bytes: number,
 *   speed: number|null, left: string|null, seconds: string, error: string|null, error_type: string|null, failures: Failure[],
 *   failed: number, warnings: string[], outputs: Output[], unverified: string|null, report: string|null}} Job */

/** @typedef {{target: string, exists: boolean, images: {name: string|null, shape: number[], dtype: string}[], pixel_bytes: number,
 *   expected_bytes: number|null}} PlannedOutput */
/** @typedef {{source: string, target: string, action: string, outputs: PlannedOutput[], backend: string, error: string|null,
 *   error_type: string|null, warnings: string[]}} PlannedFile */
/** @typedef {{target: string, files: PlannedFile[], skipped: Record<string, string>, pixel_bytes: number, expected_bytes: number|null,
 *   memory_bytes: number, free_bytes: number|null}} Plan */

/** @typedef {{sources: string[], folder: string, options: Record<string, string|number|boolean>}} Order */

export {};
