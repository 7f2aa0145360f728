/** Saves what is on the screen as a picture. */

import {h, pen} from './dom.js';
import {scaleBar} from './units.js';

/** @import {Viewer} from './viewer.js' */

/** The picture as it is on the screen, with regions and the scale bar. @param {Viewer} viewer */
export function pictureOf(viewer) {
  const copy = viewer.picture(), context = pen(copy);
  context.drawImage(viewer.above, 0, 0);
  const bar = viewer.info && scaleBar(viewer.info.image.pixelSize.x, viewer.view.zoom);
  if (!bar) return copy;
  const r = viewer.ratio, width = bar.width * r, right = copy.width - 16 * r, bottom = copy.height - 18 * r;
  context.font = `600 ${13 * r}px system-ui, sans-serif`;
  context.textAlign = 'center';
  context.lineWidth = 3 * r;
  context.strokeStyle = '#000a';
  context.fillStyle = '#fff';
  context.strokeText(bar.text, right - width / 2, bottom - 9 * r);
  context.fillText(bar.text, right - width / 2, bottom - 9 * r);
  context.strokeRect(right - width, bottom, width, 4 * r);
  context.fillRect(right - width, bottom, width, 4 * r);
  return copy;
}

/** Download the picture as PNG. @param {Viewer} viewer */
export function savePicture(viewer) {
  pictureOf(viewer).toBlob((blob) => {
    if (!blob) return;
    const link = h('a', {href: URL.createObjectURL(blob), download: `${(viewer.file ?? 'image').split('/').pop()}.png`});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}
