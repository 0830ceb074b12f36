// The pictures follow the latents. While one is made, only the newest latents are remembered: nothing queues.

import { postForBlob } from "./requests.js";

const PAGE = crypto.getRandomValues(new Uint32Array(2)).join("-");
const REST_MS = 120; // that sliders rest before a large image is begun

export class Drawing {
  // model: what /api/model told; latents(): the { s, c } of now; failed(error): shows what went wrong.
  constructor(model, latents, failed) {
    Object.assign(this, { model, latents, failed, wanted: 0, drawn: 0, busy: false, blob: null, timer: 0 });
    this.image = document.querySelector("#image");
    this.decoding = document.querySelector("#decoding");
  }

  // Draw what the latents are now, as soon as may be.
  async update() {
    this.wanted += 1;
    this.blob = null;
    this.setBusy(this.model.is_large);
    clearTimeout(this.timer);
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.drawn !== this.wanted) {
        this.drawn = this.wanted;
        await this.quick(this.wanted);
      }
    } catch (error) {
      this.drawn = this.wanted;
      this.setBusy(false);
      this.failed(error);
    } finally {
      this.busy = false;
    }
    if (this.model.is_large) this.timer = setTimeout(() => this.large(this.wanted), REST_MS);
  }

  // What is shown at once: the image, or for a large one a smaller one; and the VAE's decoding.
  async quick(number) {
    const latents = this.latents(), { model } = this, jobs = [];
    if (model.generates && model.decodes) {
      jobs.push(this.ask("decoding", latents, number).then((blob) => {
        show(this.decoding, blob);
        if (model.is_large && !model.preview) show(this.image, blob);
      }));
    }
    if (!model.is_large) {
      jobs.push(this.ask("image", latents, number).then((blob) => this.finished(blob, number)));
    } else if (model.preview) {
      jobs.push(this.ask("preview", latents, number).then((blob) => show(this.image, blob)));
    }
    await Promise.all(jobs);
  }

  async large(number) {
    try {
      const blob = await this.ask("image", this.latents(), number);
      if (number === this.wanted) this.finished(blob, number);
    } catch (error) {
      if (error.overtaken || number !== this.wanted) return;
      this.setBusy(false);
      this.failed(error);
    }
  }

  // A preview overtakes the large image that is being made: both are asked for under one name.
  ask(kind, latents, number) {
    const name = kind === "decoding" ? kind : "image";
    const order = 2 * number + (kind === "image" && this.model.is_large ? 1 : 0);
    return postForBlob(`api/${kind}`, { ...latents, page: `${PAGE}-${name}`, number: order });
  }

  finished(blob, number) {
    show(this.image, blob);
    if (number !== this.wanted) return;
    this.blob = blob;
    this.setBusy(false);
  }

  setBusy(busy) {
    this.image.querySelector(".frame").setAttribute("aria-busy", String(busy));
    this.image.querySelector(".spinner").hidden = !busy;
    const { resolution, preview, is_large: large, generates } = this.model;
    const small = preview ? `preview, ${preview} px` : "preview: the VAE's decoding";
    this.image.querySelector("figcaption").textContent = busy && large ? `${small} …` : `${generates ? "image" : "decoding"}, ${resolution} px`;
  }
}

// Show a PNG in a figure, and let the one before go.
function show(figure, blob) {
  const image = figure.querySelector("img"), old = image.src;
  image.src = URL.createObjectURL(blob);
  if (old.startsWith("blob:")) URL.revokeObjectURL(old);
  figure.hidden = false;
}
