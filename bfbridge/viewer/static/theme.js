/** Light and dark. */

/** @import {App} from './app.js' */

/** @param {HTMLElement} root */
export function flipTheme(root) {
  const scheme = getComputedStyle(root).colorScheme;
  const dark = scheme === 'dark' || (scheme !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches);
  root.dataset.theme = dark ? 'light' : 'dark';
}

/** @param {App} app */
export function switchTheme(app) {
  flipTheme(app.root);
  recolor(app);
}

/** Draw again what has colours of the theme. @param {App} app */
export function recolor(app) {
  for (const pane of [app.main, app.second]) {
    pane?.recolor();
    pane?.viewer.set({});
  }
}
