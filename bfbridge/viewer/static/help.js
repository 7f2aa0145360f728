/** The list of keys. */

import {h, small} from './dom.js';

const KEYS = [
  ['drag, arrows', 'move'], ['wheel, pinch, + and \u2212', 'zoom'], ['0', 'whole image'], ['1', 'one pixel for one of the screen'], ['Page up, Page down', 'next and previous slice'],
  ['. and ,', 'next and previous time point'], ['space', 'play'], ['a', 'contrast of this plane'], ['c', 'channels'], ['r, R', 'rotate'], ['f, v', 'mirror left-right, up-down'],
  ['n', 'smooth or sharp pixels'], ['m, p', 'measure a length, an area'], ['Enter, Escape', 'end measuring'], ['s', 'save a picture'], ['i', 'metadata'], ['?', 'this list'],
];

/** @returns {HTMLDialogElement} */
export function helpDialog() {
  const dialog = h('dialog', {className: 'help', 'aria-label': 'Keys'}, h('header', {}, h('h2', {}, 'Keys'), small('close', () => dialog.close())),
    h('table', {}, h('tbody', {}, ...KEYS.map(([key, text]) => h('tr', {}, h('th', {scope: 'row'}, key), h('td', {}, text))))));
  return dialog;
}
