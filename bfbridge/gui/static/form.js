/** How the chosen files are converted: format, folder, options, the plan, the command line. */

import {h, small} from '../../viewer/static/dom.js';
import {errorBox, post} from './requests.js';
import {baseName, bytes, counted, folderOf} from './text.js';

/** @import {Chosen} from './chosen.js' */
/** @import {Compression, Format, Order, Plan, PlannedFile, Source, State, Switch} from './types.js' */

/** @type {Record<Switch, string>} */
const LABELS = {pyramid: 'Lower resolution levels', verify: 'Verify', overwrite: 'Overwrite'};
export const EXISTS = 'Choose another folder, or tick \u201cOverwrite\u201d.';

export class Form {
  /** @param {State} state @param {Chosen} chosen @param {{folder: () => string, added: () => void}} around */
  constructor(state, chosen, around) {
    this.state = state;
    this.chosen = chosen;
    this.around = around;
    /** Whether the user has named a folder. */
    this.named = false;
    this.asked = 0;
    /** Whether the user has chosen a format. */
    this.picked = false;
    this.format = h('select', {onchange: () => {
      this.picked = true;
      this.update();
    }}, ...state.formats.map((f) => h('option', {value: f.name, textContent: f.label})));
    this.folder = h('input', {type: 'text', spellcheck: false, autocomplete: 'off', oninput: () => {
      this.named = true;
      this.update();
    }});
    this.compression = h('select', {onchange: () => this.update()});
    this.quality = h('input', {type: 'number', oninput: () => this.update()});
    this.series = h('select', {onchange: () => this.update()});
    this.switches = /** @type {Record<Switch, HTMLInputElement>} */ ({});
    const boxes = /** @type {Switch[]} */ (Object.keys(LABELS)).map((name) => {
      const {help, on} = state.switches[name], id = `help-${name}`;
      const box = h('input', {type: 'checkbox', checked: on, 'aria-describedby': id, onchange: () => this.update()});
      this.switches[name] = box;
      return h('div', {className: 'switch'}, h('label', {}, box, LABELS[name]), h('p', {className: 'help', id}, help));
    });
    const field = (/** @type {string} */ text, /** @type {HTMLElement} */ control, /** @type {Node[]} */ ...more) => h('div', {className: 'field'}, h('label', {}, h('span', {}, text), control), ...more);
    this.qualityField = field('Quality', this.quality);
    this.seriesField = field('Images', this.series);
    this.compressionField = field('Compression', this.compression);
    this.plan = h('div', {className: 'plan', 'aria-live': 'polite'});
    this.command = h('code');
    this.copied = h('span', {className: 'soft', role: 'status'});
    this.preview = h('button', {className: 'button', onclick: () => this.showPlan()}, 'Preview');
    this.convert = h('button', {type: 'submit', className: 'button main'}, 'Convert');
    this.message = h('div');
    this.element = h('section', {className: 'card convert', 'aria-label': 'Convert'}, h('header', {}, h('h2', {}, 'Convert')),
      h('form', {onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        this.start();
      }}, h('div', {className: 'fields'}, field('Format', this.format), this.compressionField, this.qualityField, this.seriesField),
      field('Folder of the new files', this.folder, small('Use the folder of the list', () => {
        this.folder.value = around.folder();
        this.named = true;
        this.update();
      })), h('div', {className: 'switches'}, ...boxes), h('div', {className: 'actions'}, this.convert, this.preview), this.message, this.plan,
      h('details', {className: 'command', open: true}, h('summary', {}, 'The same on the command line'), h('pre', {}, this.command), small('Copy', () => this.copy()), this.copied)));
    chosen.addEventListener('change', () => this.sourcesChanged());
    this.sourcesChanged();
  }

  /** @returns {Format} */
  get known() {
    return this.state.formats.find((f) => f.name === this.format.value) ?? this.state.formats[0];
  }

  /** @returns {Source[]} */
  get described() {
    return [...this.chosen.sources.values()].filter((s) => s !== null && !s.folder).map((s) => /** @type {Source} */ (s));
  }

  sourcesChanged() {
    const paths = [...this.chosen.sources.keys()];
    this.element.hidden = !paths.length;
    if (!this.named && paths.length) this.folder.value = paths[0].includes('://') ? this.state.start : folderOf(paths[0]);
    // A new file of the same name in the same folder would be the source itself.
    if (!this.picked) this.format.value = this.state.formats[paths.some((path) => path.toLowerCase().endsWith(this.state.formats[0].suffix)) ? 1 : 0].name;
    const found = this.described, [only] = found, before = this.series.value;
    const single = paths.length === 1 && found.length === 1 && only.images > 1;
    this.seriesField.hidden = !single;
    this.series.replaceChildren(h('option', {value: '', textContent: 'All'}), ...(single ? only.series.map((s) => h('option', {value: String(s.index), textContent: `${s.index}: ${s.name || `${s.sizes.X} \u00d7 ${s.sizes.Y}`}${s.role === 'image' ? '' : ` (${s.role})`}`})) : []));
    this.series.value = single && this.series.querySelector(`option[value="${CSS.escape(before)}"]`) ? before : '';
    this.update();
  }

  /** Whether a format of pictures holds what is chosen; what was not described is assumed to fit. */
  fitsPicture() {
    return this.described.every((source) => {
      const picked = this.series.value === '' ? source.series : source.series.filter((s) => String(s.index) === this.series.value);
      return picked.length === 1 && picked[0].picture;
    });
  }

  update() {
    const picture = this.format.querySelector('option[value=png]');
    if (picture instanceof HTMLOptionElement) {
      picture.disabled = !this.fitsPicture();
      if (picture.disabled && this.format.value === 'png') this.format.value = this.state.formats[0].name;
      picture.textContent = `PNG picture${picture.disabled ? ' (for one plane of 8 or 16 bits)' : ''}`;
    }
    this.fillCompressions();
    this.switches.pyramid.disabled = !this.known.levels;
    this.message.replaceChildren();
    this.plan.replaceChildren();
    this.showCommand();
  }

  fillCompressions() {
    const {compressions} = this.known, before = this.compression.value;
    const dtypes = this.described.flatMap((s) => s.series.map((one) => one.dtype));
    const fits = (/** @type {Compression} */ c) => !c.dtypes.length || !dtypes.length || dtypes.some((d) => c.dtypes.includes(d));
    this.compressionField.hidden = !compressions.length;
    this.compression.replaceChildren(h('option', {value: '', textContent: 'Default, lossless'}), ...compressions.map((c) => h('option', {
      value: c.name, disabled: !fits(c), textContent: `${c.name}${c.name === 'none' ? '' : c.lossy ? `, smaller, changes pixel values (${c.dtypes.join(', ')})` : ', lossless'}`})));
    const kept = compressions.find((c) => c.name === before && fits(c));
    this.compression.value = kept?.name ?? '';
    const quality = kept?.quality ?? null;
    this.qualityField.hidden = quality === null;
    if (!quality) {
      this.quality.value = '';
    } else {
      const [least, most, usual] = quality;
      Object.assign(this.quality, {min: String(least), max: String(most), required: true});
      if (!this.quality.value) this.quality.value = String(usual);
    }
  }

  /** @returns {Order} */
  order() {
    /** @type {Record<string, string|number|boolean>} */
    const options = {format: this.format.value, verify: this.switches.verify.checked, overwrite: this.switches.overwrite.checked};
    if (this.known.levels) options.pyramid = this.switches.pyramid.checked;
    if (this.compression.value) options.compression = this.compression.value;
    if (!this.qualityField.hidden && this.quality.value) options.level = Number(this.quality.value);
    if (this.series.value !== '') options.series = Number(this.series.value);
    return {sources: [...this.chosen.sources.keys()], folder: this.folder.value, options};
  }

  async showCommand() {
    const order = this.order(), asked = ++this.asked;
    if (!order.sources.length || !order.folder) return;
    const found = await post('command', order).catch(() => null);
    if (asked === this.asked) this.command.textContent = found?.command ?? '';
    this.copied.textContent = '';
  }

  async copy() {
    await navigator.clipboard.writeText(this.command.textContent ?? '');
    this.copied.textContent = 'Copied';
  }

  /** Whether the folder and the quality are given. */
  valid() {
    this.folder.required = true;
    return [this.folder, this.quality].every((input) => input.closest('[hidden]') || input.reportValidity());
  }

  async showPlan() {
    if (!this.valid()) return;
    this.plan.replaceChildren(h('p', {className: 'note'}, 'Opening the files\u2026'));
    this.preview.disabled = true;
    const asked = this.asked;
    try {
      /** @type {Plan} */
      const found = await post('plan', this.order());
      if (asked === this.asked) this.plan.replaceChildren(...planned(found));
    } catch (error) {
      if (asked === this.asked) this.plan.replaceChildren(errorBox(error));
    } finally {
      this.preview.disabled = false;
    }
  }

  async start() {
    if (!this.valid()) return;
    this.message.replaceChildren();
    this.convert.disabled = true;
    try {
      await post('convert', this.order());
      this.around.added();
    } catch (error) {
      this.message.replaceChildren(errorBox(error));
    } finally {
      this.convert.disabled = false;
    }
  }
}

/** The plan in words. @param {Plan} plan */
function planned(plan) {
  const skipped = Object.keys(plan.skipped).length;
  const short = plan.expected_bytes !== null && plan.free_bytes !== null && plan.expected_bytes > plan.free_bytes;
  const size = (/** @type {number|null} */ expected, /** @type {number} */ pixels) => (expected === null ? `at most about ${bytes(pixels)}` : `about ${bytes(expected)}`);
  const row = (/** @type {PlannedFile} */ file) => (file.action === 'fail'
    ? [h('tr', {}, h('td', {}, baseName(file.source)), h('td', {colSpan: 2, className: 'failed'}, `${file.error ?? ''}${file.error_type === 'TargetExists' ? ` ${EXISTS}` : ''}`))]
    : file.outputs.map((output) => h('tr', {}, h('td', {title: file.source}, baseName(file.source)),
      h('td', {title: output.target}, `${output.target}${output.exists ? ' (replaced)' : ''}`), h('td', {}, `${counted(output.images.length, 'image')}, ${size(output.expected_bytes, output.pixel_bytes)}`))));
  return [
    h('div', {className: 'scroll'}, h('table', {className: 'plain'}, h('thead', {}, h('tr', {}, ...['Source', 'New file', 'Content'].map((text) => h('th', {scope: 'col'}, text)))), h('tbody', {}, ...plan.files.flatMap(row)))),
    plan.pixel_bytes > 0 && h('p', {className: 'note'}, [`Together ${size(plan.expected_bytes, plan.pixel_bytes)} on the disk`, plan.free_bytes !== null && `${bytes(plan.free_bytes)} free${short ? ', which is too little' : ''}`,
      `at most ${bytes(plan.memory_bytes)} of memory`, skipped && `${counted(skipped, 'file')} left out: no images, or parts of others`].filter(Boolean).join('; ') + '.'),
    ...plan.files.flatMap((file) => file.warnings.map((text) => h('p', {className: 'warning'}, `${baseName(file.source)}: ${text}`))),
  ].filter((part) => part instanceof Node);
}
