/** The conversions: progress, results, errors. */

import {h, small} from '../../viewer/static/dom.js';
import {encoded} from '../../viewer/static/source.js';
import {EXISTS} from './form.js';
import {errorBox, get, post} from './requests.js';
import {baseName, bytes, counted} from './text.js';

/** @import {Failure, Job, Output} from './types.js' */

const PAUSE = 400;
const STATES = {waiting: 'Waiting', running: 'Converting', done: 'Done', failed: 'Failed', cancelled: 'Cancelled'};

export class Queue {
  /** @param {boolean} reveals whether the server can open a file manager @param {() => void} ended called when a conversion has ended */
  constructor(reveals, ended) {
    this.reveals = reveals;
    this.ended = ended;
    /** @type {Map<number, Card>} */
    this.cards = new Map();
    this.timer = 0;
    this.cardList = h('ul', {className: 'cards'});
    this.spoken = h('p', {className: 'unseen', role: 'status'});
    this.message = h('div');
    this.element = h('section', {className: 'card jobs', 'aria-label': 'Conversions', hidden: true},
      h('header', {}, h('h2', {}, 'Conversions'), small('Clear finished', () => this.use(post('clear')))), this.message, this.cardList, this.spoken);
  }

  /** Do something on the server, and show what came of it. @param {Promise<unknown>} work */
  async use(work) {
    try {
      await work;
      this.message.replaceChildren();
      await this.update();
    } catch (error) {
      this.message.replaceChildren(errorBox(error));
    }
  }

  get busy() {
    return [...this.cards.values()].some(({job}) => job.state === 'waiting' || job.state === 'running');
  }

  /** Ask for the state, again and again while something is running. */
  async update() {
    clearTimeout(this.timer);
    /** @type {Job[]} */
    let jobs;
    try {
      jobs = await get('jobs');
    } catch (error) {
      this.message.replaceChildren(errorBox(error));
      this.timer = window.setTimeout(() => this.update(), 5 * PAUSE);
      return;
    }
    const numbers = new Set(jobs.map((job) => job.number));
    for (const [number, card] of this.cards) {
      if (numbers.has(number)) continue;
      card.element.remove();
      this.cards.delete(number);
    }
    for (const job of jobs) {
      const card = this.cards.get(job.number);
      if (card) {
        this.say(card.job, job);
        card.show(job);
      } else {
        const made = new Card(this, job);
        this.cards.set(job.number, made);
        // The newest first.
        this.cardList.prepend(made.element);
      }
    }
    this.element.hidden = !jobs.length;
    if (this.busy) this.timer = window.setTimeout(() => this.update(), PAUSE);
  }

  /** Tell screen readers of quarters and of the end. @param {Job} before @param {Job} now */
  say(before, now) {
    const quarter = (/** @type {Job} */ job) => Math.floor(job.fraction * 4);
    if (before.state !== now.state && now.state !== 'running') this.ended();
    if (before.state !== now.state) this.spoken.textContent = `${title(now)}: ${STATES[now.state]}`;
    else if (now.state === 'running' && quarter(now) > quarter(before)) this.spoken.textContent = `${title(now)}: ${25 * quarter(now)} percent`;
  }
}

/** @param {Job} job */
function title({sources, count, target}) {
  const [first] = sources, rest = count - 1;
  return `${baseName(first)}${rest ? ` and ${rest} more` : ''} \u2192 ${baseName(target)}`;
}

/** One conversion. */
class Card {
  /** @param {Queue} queue @param {Job} job */
  constructor(queue, job) {
    this.queue = queue;
    this.job = job;
    this.state = h('span', {className: 'state'});
    this.bar = h('progress', {max: 1, 'aria-label': title(job)});
    this.line = h('p', {className: 'soft numbers-line'});
    this.cancel = small('Cancel', () => queue.use(post('cancel', {number: job.number})), {'aria-label': `Cancel ${title(job)}`});
    this.results = h('div', {className: 'results'});
    this.element = h('li', {className: 'job'}, h('header', {}, h('h3', {title: `${job.sources.join('\n')}\n\u2192 ${job.target}`}, title(job)), this.state), h('div', {className: 'running'}, this.bar, this.cancel), this.line, this.results);
    this.show(job, true);
  }

  /** @param {Job} job @param {boolean} [first] */
  show(job, first = false) {
    const changed = first || job.state !== this.job.state, running = job.state === 'running';
    this.job = job;
    this.element.className = `job ${job.state}`;
    this.state.textContent = job.cancelling ? 'Cancelling\u2026' : STATES[job.state];
    const active = running || job.state === 'waiting';
    this.bar.parentElement?.toggleAttribute('hidden', !active);
    this.cancel.disabled = job.cancelling;
    if (running && !job.phase && job.bytes) this.bar.value = job.fraction;
    else if (running) this.bar.removeAttribute('value');
    else this.bar.value = 0;
    this.line.textContent = running ? numbers(job) : job.state === 'waiting' ? 'Starts when the conversions before it have ended.' : ended(job);
    if (changed && !active) this.results.replaceChildren(...this.summary(job));
  }

  /** @param {Job} job */
  summary(job) {
    const {queue} = this;
    const output = (/** @type {Output} */ one) => h('li', {}, h('p', {className: 'where'}, one.target), h('p', {className: 'soft'}, [counted(one.images, 'image'), `${bytes(one.bytes)} on the disk`, one.verified ? 'verified: all pixels equal the source' : ''].filter(Boolean).join(' \u00b7 ')),
      lost(one), one.view !== undefined && h('a', {className: 'small', target: '_blank', rel: 'noopener', href: `view/${encoded(one.view)}`, 'aria-label': `View ${baseName(one.target)} in a new tab`}, 'View result'));
    const failure = (/** @type {Failure} */ one) => h('li', {}, errorBox(one.error, one.type === 'TargetExists' ? EXISTS : undefined));
    return [
      job.error && errorBox(job.error, job.error_type === 'TargetExists' ? EXISTS : undefined),
      job.failures.length && h('ul', {}, ...job.failures.map(failure)),
      job.outputs.length && h('ul', {className: 'outputs'}, ...job.outputs.map(output)),
      job.unverified && h('p', {className: 'warning'}, `The new file is complete, but it was not verified: ${job.unverified}`),
      ...job.warnings.map((text) => h('p', {className: 'warning'}, text)),
      job.report && h('p', {className: 'soft where'}, `Report: ${job.report}`),
      queue.reveals && h('p', {className: 'actions'}, small('Open folder', () => queue.use(post('reveal', {number: job.number})), {'aria-label': `Open the folder of ${title(job)}`})),
    ].filter((part) => part instanceof Node);
  }
}

/** @param {Output} output */
function lost({lost: found}) {
  if (!found) return null;
  if (!found.length) return h('p', {className: 'soft'}, 'All metadata of the OME model were kept.');
  return h('details', {}, h('summary', {}, `Metadata that the new file could not keep: ${found.length}`), h('ul', {className: 'plain-list'}, ...found.map((text) => h('li', {}, text))));
}

/** @param {Job} job */
function numbers(job) {
  if (job.phase) return `${job.phase}\u2026`;
  const files = job.files > 1 ? `file ${Math.min(job.ended + 1, job.files)} of ${job.files}${job.current ? `: ${job.current}` : ''}` : '';
  return [files, job.bytes ? `${Math.floor(job.fraction * 100)} %` : 'Opening\u2026', job.bytes && bytes(job.bytes), job.speed && `${bytes(job.speed)}/s`, job.left && `about ${job.left} left`].filter(Boolean).join(' \u00b7 ');
}

/** @param {Job} job */
function ended(job) {
  if (job.state === 'cancelled') return job.outputs.length || job.unverified ? 'Files that were complete are kept; unfinished ones were removed.' : 'Nothing unfinished was left.';
  if (job.files === 1) return `${job.state === 'done' ? 'Converted in' : 'Failed after'} ${job.seconds}`;
  return [`${job.ended - job.failed} converted`, job.failed && `${job.failed} failed`, `in ${job.seconds}`].filter(Boolean).join(', ');
}
