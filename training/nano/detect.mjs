// Runs a detector of TensorFlow.js for things.py: `node detect.mjs MODEL.json`, in a folder that has TensorFlow.js's packages.
// Reads pictures as the model takes them, float32, one after another from standard input; answers each with a line of JSON, the
// shapes of what the model gives, and then all of it as float32.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const require = createRequire(path.resolve('package.json'));
const tf = require('@tensorflow/tfjs-core');
const { loadGraphModel } = require('@tensorflow/tfjs-converter');
require('@tensorflow/tfjs-backend-cpu'); // for what the other one lacks
const wasm = require('@tensorflow/tfjs-backend-wasm');

const file = process.argv[2];
wasm.setWasmPaths(path.resolve('node_modules/@tensorflow/tfjs-backend-wasm/dist') + path.sep);
wasm.setThreadsCount(1);
await tf.setBackend('wasm');

const described = JSON.parse(fs.readFileSync(file));
const groups = described.weightsManifest;
const data = Buffer.concat(groups.flatMap(({ paths }) => paths.map((name) => fs.readFileSync(path.join(path.dirname(file), name)))));
const model = await loadGraphModel(tf.io.fromMemory({
  modelTopology: described.modelTopology,
  weightSpecs: groups.flatMap(({ weights }) => weights),
  weightData: new Uint8Array(data).buffer,
}));

const { shape } = model.inputs[0];
const size = 4 * shape.reduce((a, b) => a * b);
let waiting = Buffer.alloc(0);
for await (const some of process.stdin) {
  waiting = Buffer.concat([waiting, some]);
  while (waiting.length >= size) {
    const picture = tf.tensor(new Float32Array(new Uint8Array(waiting.subarray(0, size)).buffer), shape);
    waiting = waiting.subarray(size);
    const given = [model.execute(picture)].flat();
    const numbers = given.map((one) => Buffer.from(Float32Array.from(one.dataSync()).buffer));
    fs.writeSync(1, Buffer.concat([Buffer.from(JSON.stringify(given.map((one) => one.shape)) + '\n'), ...numbers]));
    tf.dispose([picture, ...given]);
  }
}
