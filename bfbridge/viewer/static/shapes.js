/** Regions of interest of OME-XML, and measuring by drawing. */

import {apply} from './camera.js';
import {inWords, metres, short} from './units.js';

/** @import {App} from './app.js' */
/** @import {Viewer} from './viewer.js' */
/** @import {Matrix, Shape} from './types.js' */

/** @param {CanvasRenderingContext2D} context @param {Shape[]} shapes @param {Matrix} matrix @param {number} ratio */
export function drawShapes(context, shapes, matrix, ratio) {
  context.lineJoin = context.lineCap = 'round';
  context.font = `600 ${12 * ratio}px system-ui, sans-serif`;
  for (const shape of shapes) {
    const points = shape.points.map(([x, y]) => apply(matrix, x, y));
    if (!points.length) continue;
    context.beginPath();
    points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (shape.closed) context.closePath();
    if (points.length === 1) context.arc(points[0][0], points[0][1], 4 * ratio, 0, 7);
    context.lineWidth = 4 * ratio;
    context.strokeStyle = '#0009';
    context.stroke();
    context.lineWidth = 2 * ratio;
    context.strokeStyle = shape.color ?? '#ffd54a';
    context.stroke();
    if (!shape.fixed) {
      context.fillStyle = shape.color ?? '#ffd54a';
      for (const [x, y] of points) context.fillRect(x - 2.5 * ratio, y - 2.5 * ratio, 5 * ratio, 5 * ratio);
    }
    if (shape.text) {
      const [x, y] = shape.closed ? [points.reduce((s, p) => s + p[0], 0) / points.length, points.reduce((s, p) => s + p[1], 0) / points.length] : points[points.length - 1];
      context.lineWidth = 4 * ratio;
      context.strokeStyle = '#000c';
      context.strokeText(shape.text, x + 8 * ratio, y - 8 * ratio);
      context.fillStyle = '#fff';
      context.fillText(shape.text, x + 8 * ratio, y - 8 * ratio);
    }
  }
}

/** Length of a line or area of a polygon, in pixels times the sizes given. @param {[number, number][]} points @param {boolean} area @param {number} sx @param {number} sy */
export function measured(points, area, sx, sy) {
  let sum = 0;
  for (let i = 0; i < points.length - (area ? 0 : 1); i++) {
    const [x0, y0] = points[i], [x1, y1] = points[(i + 1) % points.length];
    sum += area ? (x0 * y1 - x1 * y0) * sx * sy : Math.hypot((x1 - x0) * sx, (y1 - y0) * sy);
  }
  return area ? Math.abs(sum) / 2 : sum;
}

/** A tool that measures: a drag is a line, clicks are a path or polygon, which Enter or a double click ends. */
class Measure {
  /** @param {Viewer} viewer @param {'length'|'area'} kind */
  constructor(viewer, kind) {
    this.viewer = viewer;
    this.area = kind === 'area';
    /** @type {Shape|null} */
    this.shape = null;
    this.fresh = false;
  }

  /** @param {number} x @param {number} y */
  down(x, y) {
    this.fresh = !this.shape;
    if (!this.shape) {
      this.shape = {points: [[x, y], [x, y]], closed: this.area, kind: 'measure'};
      this.viewer.shapes.push(this.shape);
    } else this.shape.points.push([x, y]);
    this.show();
    return true;
  }

  /** @param {number} x @param {number} y */
  hover(x, y) {
    if (!this.shape) return;
    this.shape.points[this.shape.points.length - 1] = [x, y];
    this.show();
  }

  /** @param {number} x @param {number} y */
  drag(x, y) {
    if (this.area && this.shape) this.shape.points.push([x, y]);
    else this.hover(x, y);
    this.show();
  }

  /** @param {number} x @param {number} y @param {boolean} tap */
  up(x, y, tap) {
    if (!tap && this.fresh) this.end(true);
    else if (this.shape && this.fresh) this.hover(x, y);
    return true;
  }

  /** @param {boolean} [whole] */
  end(whole = false) {
    const shape = this.shape;
    this.shape = null;
    if (!shape) return;
    // The last point is the pointer's; a double click has set two more.
    if (!whole) shape.points = shape.points.filter((p, i, all) => !i || Math.hypot(p[0] - all[i - 1][0], p[1] - all[i - 1][1]) * this.viewer.view.zoom > 3);
    if (shape.points.length < (this.area ? 3 : 2)) this.viewer.shapes = this.viewer.shapes.filter((s) => s !== shape);
    else label(this.viewer, shape);
    this.viewer.redraw();
  }

  back() {
    if (this.shape && this.shape.points.length > 2) this.shape.points.splice(-2, 1);
    else if (!this.shape) this.viewer.shapes = this.viewer.shapes.filter((s, i, all) => s.fixed || i < all.length - 1);
    this.show();
  }

  show() {
    if (this.shape) label(this.viewer, this.shape);
    this.viewer.redraw();
  }
}

/** Start or end measuring. @param {App} app @param {'length'|'area'} kind */
export function measure(app, kind) {
  const {viewer} = app;
  viewer.tool?.end();
  app.tool = app.tool === kind ? undefined : kind;
  viewer.tool = app.tool ? new Measure(viewer, kind) : null;
  app.length?.setAttribute('aria-pressed', String(app.tool === 'length'));
  app.area?.setAttribute('aria-pressed', String(app.tool === 'area'));
  app.main.stage.classList.toggle('measuring', Boolean(app.tool));
  if (app.tool) app.say(kind === 'area' ? 'Draw around an area; click for corners, Enter ends.' : 'Drag a line; click for corners, Enter ends.');
}

/** @param {Viewer} viewer @param {Shape} shape */
function label(viewer, shape) {
  const size = viewer.info?.image.pixelSize;
  const x = metres(size?.x ?? null), y = metres(size?.y ?? null);
  const value = measured(shape.points, shape.closed, x ?? 1, y ?? x ?? 1);
  shape.text = x ? inWords(value, shape.closed ? 2 : 1) : `${short(value)} px${shape.closed ? '\u00b2' : ''}`;
}

/** The regions of interest of one image. @param {string} xml OME-XML @param {number} series @returns {Shape[]} */
export function shapesOf(xml, series) {
  const ome = new DOMParser().parseFromString(xml, 'application/xml');
  const image = ome.getElementsByTagNameNS('*', 'Image')[series];
  if (!image) return [];
  const wanted = new Set([...image.getElementsByTagNameNS('*', 'ROIRef')].map((ref) => ref.getAttribute('ID')));
  const rois = [...ome.getElementsByTagNameNS('*', 'ROI')];
  return rois.filter((roi) => wanted.has(roi.getAttribute('ID'))).flatMap((roi) =>
    [...roi.getElementsByTagNameNS('*', 'Union')].flatMap((union) => [...union.children].map((e) => shapeOf(e)).filter((s) => s.points.length)));
}

/** @param {Element} e @returns {Shape} */
function shapeOf(e) {
  const n = (/** @type {string} */ name) => Number(e.getAttribute(name) ?? 0);
  const kind = e.localName;
  /** @type {[number, number][]} */
  let points = [];
  if (kind === 'Rectangle' || kind === 'Mask') points = [[0, 0], [1, 0], [1, 1], [0, 1]].map(([x, y]) => [n('X') + x * n('Width'), n('Y') + y * n('Height')]);
  else if (kind === 'Ellipse') points = Array.from({length: 64}, (_, i) => [n('X') + n('RadiusX') * Math.cos((i * Math.PI) / 32), n('Y') + n('RadiusY') * Math.sin((i * Math.PI) / 32)]);
  else if (kind === 'Line') points = [[n('X1'), n('Y1')], [n('X2'), n('Y2')]];
  else if (kind === 'Polygon' || kind === 'Polyline') points = (e.getAttribute('Points') ?? '').trim().split(/\s+/).map((p) => /** @type {[number, number]} */ (p.split(',').map(Number))).filter((p) => p.length === 2 && p.every(Number.isFinite));
  else if (kind === 'Point' || kind === 'Label') points = [[n('X'), n('Y')]];
  const transform = [...e.children].find((child) => child.localName === 'Transform');
  if (transform) {
    const t = ['A00', 'A10', 'A01', 'A11', 'A02', 'A12'].map((name) => Number(transform.getAttribute(name)));
    points = points.map(([x, y]) => apply(/** @type {any} */ (t), x, y));
  }
  // OME stores colours as signed RGBA.
  const rgba = e.hasAttribute('StrokeColor') ? n('StrokeColor') >>> 0 : 0;
  const color = rgba ? `#${(rgba >>> 8).toString(16).padStart(6, '0')}` : '#ffd54a';
  return {points, closed: /Rectangle|Mask|Ellipse|Polygon/.test(kind), kind, color, fixed: true, text: e.getAttribute('Text') ?? undefined};
}
