// OpenLayers drawing planes of an image of bfbridge's server; see view_openlayers.py.
import Map from 'ol/Map.js';
import View from 'ol/View.js';
import DataTile from 'ol/source/DataTile.js';
import TileGrid from 'ol/tilegrid/TileGrid.js';
import Tile from 'ol/layer/WebGLTile.js';
import Projection from 'ol/proj/Projection.js';

window.start = ({raw, width, height, scales, planes, x, y}) => {
  const extent = [0, -height, width, 0], projection = new Projection({code: 'pixels', units: 'pixels', extent});
  const resolutions = [...scales].reverse();
  const load = async (z, column, row) => {
    const level = resolutions.length - 1 - z;
    const response = await fetch(`${raw}/${level}/0/0/${row}/${column}?c=${planes.map((p) => p.c)}&size=512`);
    const values = new Uint16Array(await response.arrayBuffer()), count = planes.length;
    const across = Math.min(512, Math.ceil(width / scales[level]) - column * 512), down = values.length / count / across;
    const tile = new Float32Array(512 * 512 * count);
    for (let p = 0; p < count; p++) {
      for (let j = 0; j < down; j++) {
        for (let i = 0; i < across; i++) tile[(j * 512 + i) * count + p] = values[(p * down + j) * across + i];
      }
    }
    return tile;
  };
  const variables = {};
  planes.forEach((plane, i) => Object.assign(variables, {[`low${i}`]: plane.low, [`high${i}`]: plane.high}));
  const share = (i) => ['clamp', ['/', ['-', ['band', i + 1], ['var', `low${i}`]], ['-', ['var', `high${i}`], ['var', `low${i}`]]], 0, 1];
  const sum = (channel) => ['clamp', ['+', 0, ...planes.map((plane, i) => ['*', plane.color[channel] / 255, share(i)])], 0, 1];
  const source = new DataTile({loader: load, projection, bandCount: planes.length, interpolate: false, transition: 0,
    tileGrid: new TileGrid({extent, resolutions, tileSize: 512, origin: [0, 0]})});
  window.layer = new Tile({source, style: {variables, color: ['array', sum(0), sum(1), sum(2), 1]}});
  window.map = new Map({target: 'map', layers: [layer], controls: [], pixelRatio: 1,
    view: new View({projection, center: [x, -y], resolution: 1, constrainResolution: false})});
  return new Promise((done) => map.once('rendercomplete', done));
};

window.drag = async () => {
  const frames = 25, pixel = new Uint8Array(4), begun = performance.now();
  for (let i = 0; i < frames; i++) {
    layer.updateStyleVariables({high0: 1500 + 60 * i});
    await new Promise((done) => layer.once('postrender', done));
    const gl = document.querySelector('#map canvas').getContext('webgl');
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
  }
  return (1000 * frames) / (performance.now() - begun);
};
