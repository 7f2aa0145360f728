/**
 * The viewer with everything around it: tools, sliders, panels. The page and the notebook both use it.
 *
 * What a plain image does not need is imported when it is used first.
 */

import {button, h} from './dom.js';
import {Pane} from './pane.js';
import {channelPanel} from './panel.js';

/** @import {FileInfo, Listing, Palettes, Source, State, View} from './types.js' */

/** The whole: one or two panes, tools, panels. */
export class App {
  /**
   * @param {HTMLElement} root @param {Source} source @param {Palettes} palettes
   * @param {{compact?: boolean, opened?: (file: string) => void}} [options]
   */
  constructor(root, source, palettes, options = {}) {
    this.root = root;
    this.source = source;
    this.palettes = palettes;
    this.options = options;
    this.main = new Pane(source, palettes);
    /** @type {Pane|null} */ this.second = null;
    /** @type {'length'|'area'|undefined} */ this.tool = undefined;
    this.viewer = this.main.viewer;
    this.title = h('h1');
    this.panes = h('main', {className: 'panes'}, this.main.element);
    this.channels = h('aside', {className: 'side right', 'aria-label': 'Display'}, channelPanel(this.viewer));
    this.browser = h('aside', {className: 'side left', 'aria-label': 'Choose an image', hidden: true});
    this.note = h('div', {className: 'toast', role: 'status'});
    /** @type {HTMLDialogElement|undefined} */ this.help = undefined;
    /** @type {{dialog: HTMLDialogElement, open: () => void}|undefined} */ this.metadata = undefined;
    /** @type {HTMLElement|undefined} */ this.layers = undefined;
    root.classList.add('bfbridge');
    root.classList.toggle('compact', Boolean(options.compact));
    root.append(this.toolbar(), h('div', {className: 'body'}, this.browser, this.panes, this.channels), this.note);
    this.viewer.addEventListener('key', (event) => this.key(/** @type {CustomEvent} */ (event).detail));
    this.viewer.addEventListener('open', () => this.opened());
    this.viewer.addEventListener('change', () => this.smooth?.setAttribute('aria-pressed', String(this.viewer.state.smooth)));
    if (root.clientWidth < 760) this.channels.hidden = true;
  }

  toolbar() {
    const {viewer} = this;
    const toggle = (/** @type {string} */ name, /** @type {string} */ label, /** @type {() => void} */ done) => button(name, label, done, {'aria-pressed': 'false'});
    const group = (/** @type {(Node|false)[]} */ ...children) => h('span', {className: 'group'}, ...children);
    const zoom = (/** @type {number} */ factor) => viewer.zoomBy(factor, viewer.width / 2, viewer.height / 2, 160);
    this.smooth = toggle('smooth', 'Smooth pixels (N)', () => viewer.set({smooth: !viewer.state.smooth}));
    this.length = toggle('ruler', 'Measure a length (M)', () => this.measure('length'));
    this.area = toggle('area', 'Measure an area (P)', () => this.measure('area'));
    this.beside = toggle('compare', 'Second image beside this one', () => this.compare(this.second ? null : viewer.file ?? null));
    const {compact} = this.options;
    return h('div', {className: 'tools', role: 'toolbar', 'aria-label': 'Tools'}, button('menu', 'Files and images', () => this.browse()), this.title,
      group(button('minus', 'Zoom out (-)', () => zoom(1 / 1.5)), button('plus', 'Zoom in (+)', () => zoom(1.5)),
        button('fit', 'Whole image (0)', () => viewer.fit()), h('button', {className: 'icon', title: 'One to one (1)', onclick: () => viewer.actualSize()}, '1:1')),
      group(button('turn', 'Rotate (R)', () => viewer.turn(90)), button('flip', 'Mirror (F)', () => viewer.mirror()), this.smooth),
      group(this.length, this.area, !compact && this.beside),
      group(button('info', 'Metadata (I)', () => this.showMetadata()), button('camera', 'Save a picture (S)', () => this.save()), !compact && button('link', 'Copy a link to this view', () => this.use(import('./links.js'), ({copyLink}) => copyLink(this))),
        button('theme', 'Light or dark', () => this.use(import('./theme.js'), ({switchTheme}) => switchTheme(this))), button('full', 'Full screen', () => (document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen())), button('help', 'Keys (?)', () => this.showHelp())),
      button('sliders', 'Channels (C)', () => this.toggleChannels(), {className: 'icon last'}));
  }

  /** @param {string} file @param {number} series @param {{state?: Partial<State>, view?: Partial<View>}} [wanted] */
  async open(file, series, wanted) {
    this.title.textContent = file.split('/').pop() ?? file;
    this.title.title = file;
    await this.main.open(file, series, wanted).catch(() => undefined);
  }

  opened() {
    const {viewer} = this, {image, name, series} = /** @type {FileInfo} */ (viewer.info), file = viewer.file ?? '';
    const own = image.name && image.name !== name ? image.name : '';
    this.title.replaceChildren(file.split('/').pop() ?? '', h('small', {}, series.length > 1 ? own || `image ${image.index + 1}` : ''));
    this.options.opened?.(file);
    if (this.tool) this.measure(this.tool);
    if (series.some((s) => s.mask)) this.showLayers();
    viewer.source.text('ome', file).then(async (xml) => {
      if (!xml.includes('ROIRef')) return;
      const {shapesOf} = await import('./shapes.js');
      if (viewer.info?.image !== image) return;
      viewer.shapes.push(...shapesOf(xml, image.index));
      viewer.set({});
      this.showLayers();
    }).catch(() => undefined);
  }

  // ---- parts that are imported when they are used

  /** Do something with a module or the answer to a request; say so if it fails. @template T @param {Promise<T>} work @param {(found: T) => unknown} [done] */
  use(work, done) {
    return work.then(done).catch((error) => this.main.failed(error));
  }

  /** Show or hide files, series and plates. @param {boolean} [shown] @param {Listing} [listing] of the file's folder, if known */
  browse(shown = Boolean(this.browser.hidden), listing = undefined) {
    this.browser.hidden = !shown;
    return this.use(import('./browse.js'), ({fillBrowser}) => fillBrowser(this, listing));
  }

  showLayers() {
    return this.use(import('./layers.js'), ({layersPanel}) => {
      if (!this.layers) this.channels.append(this.layers = layersPanel(this));
    });
  }

  showMetadata() {
    return this.use(import('./metadata.js'), ({metadataDialog}) => {
      if (!this.metadata) this.root.append((this.metadata = metadataDialog(this.viewer)).dialog);
      this.metadata.open();
    });
  }

  showHelp() {
    return this.use(import('./help.js'), ({helpDialog}) => {
      if (!this.help) this.root.append(this.help = helpDialog());
      this.help.showModal();
    });
  }

  save() {
    return this.use(import('./picture.js'), ({savePicture}) => savePicture(this.viewer));
  }

  /** Measure, or stop measuring. @param {'length'|'area'} kind */
  measure(kind) {
    return this.use(import('./shapes.js'), ({measure}) => measure(this, kind));
  }

  /** Show a second file beside the first, or none. @param {string|null} file */
  compare(file) {
    return this.use(import('./compare.js'), ({compare}) => compare(this, file));
  }

  // ----

  toggleChannels() {
    this.channels.hidden = !this.channels.hidden;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const {main} = this;
    /** @type {Record<string, () => void>} */
    const keys = {
      '?': () => this.showHelp(), i: () => this.showMetadata(), s: () => this.save(), c: () => this.toggleChannels(), m: () => this.measure('length'), p: () => this.measure('area'),
      ' ': () => main.play(main.playing ? null : main.axes[main.axes.length - 1]?.axis ?? null),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** @param {string} text */
  say(text) {
    this.note.textContent = text;
    clearTimeout(this.saying);
    this.saying = setTimeout(() => {
      this.note.textContent = '';
    }, 4000);
  }
}
