/** Labels and regions above an image. */

import {h} from './dom.js';

/** @import {App} from './app.js' */

/** Controls of labels and regions. @param {App} app */
export function layersPanel(app) {
  const {viewer} = app;
  const select = h('select', {'aria-label': 'Labels', onchange: () => app.use(viewer.setOverlay(select.value ? {series: Number(select.value), opacity: Number(opacity.value), picked: 0} : null))});
  const opacity = h('input', {type: 'range', min: '0', max: '1', step: '0.05', value: '0.5', 'aria-label': 'Opacity of labels', oninput: () => viewer.state.overlay && viewer.set({overlay: {...viewer.state.overlay, opacity: Number(opacity.value)}})});
  const picked = h('output');
  const labels = h('div', {className: 'layer'}, h('label', {}, 'Labels', select), h('label', {className: 'wide'}, 'opacity', opacity), picked);
  const rois = h('input', {type: 'checkbox', onchange: () => viewer.set({shapes: rois.checked})});
  const count = h('span');
  const regions = h('label', {className: 'layer'}, rois, 'Regions ', count);
  const element = h('section', {className: 'panel', 'aria-label': 'Layers'}, h('header', {}, h('h2', {}, 'Layers')), labels, regions);
  const show = () => {
    const drawn = viewer.shapes.filter((s) => s.fixed).length;
    rois.checked = viewer.state.shapes;
    count.textContent = `(${drawn})`;
    regions.hidden = !drawn;
    select.value = String(viewer.state.overlay?.series ?? '');
    picked.value = viewer.state.overlay?.picked ? `picked: ${viewer.state.overlay.picked}` : '';
    element.hidden = labels.hidden && regions.hidden;
  };
  const opened = () => {
    const info = viewer.info;
    if (!info) return;
    const {width, height} = info.image.levels[0];
    const masks = info.series.filter((s) => s.mask && s.index !== info.image.index && Math.abs(s.sizes.X / width - s.sizes.Y / height) < 0.02);
    select.replaceChildren(h('option', {value: ''}, 'none'), ...masks.map((s) => h('option', {value: String(s.index)}, s.name || `Image ${s.index + 1}`)));
    labels.hidden = !masks.length;
    show();
  };
  viewer.addEventListener('open', opened);
  viewer.addEventListener('change', show);
  opened();
  return element;
}
