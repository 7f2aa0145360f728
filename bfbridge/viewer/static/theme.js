/** Light and dark. */

/** @import {App} from './app.js' */

/** @param {App} app */
export function switchTheme(app) {
  const scheme = getComputedStyle(app.root).colorScheme;
  const dark = scheme === 'dark' || (scheme !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches);
  app.root.dataset.theme = dark ? 'light' : 'dark';
  recolor(app);
}

/** Draw again what has colours of the theme. @param {App} app */
export function recolor(app) {
  for (const pane of [app.main, app.second]) {
    pane?.recolor();
    pane?.viewer.set({});
  }
}
