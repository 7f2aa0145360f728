/** Contrast from the pixels of a plane. */

/** @import {Viewer} from './viewer.js' */

/** Set the windows of the channels that are shown, or of one channel. @param {Viewer} viewer @param {number} [only] */
export async function autoContrast(viewer, only) {
  const image = viewer.info?.image, file = viewer.file;
  if (!image || !file || image.kind === 'labels' || image.kind === 'indexed') return;
  const {z, t, channels} = viewer.state;
  for (const {index} of image.channels) {
    if (only === undefined ? !channels[index].active : index !== only) continue;
    const found = await viewer.source.histogram(file, image.index, viewer.samples(index), z, t);
    if (viewer.info?.image !== image) return;
    viewer.setChannel(index, {low: Math.min(...found.map((h) => h.window[0])), high: Math.max(...found.map((h) => h.window[1]))});
  }
}
