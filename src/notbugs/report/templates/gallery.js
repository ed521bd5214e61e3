"use strict";
// The gallery: pictures cut from one sheet a set, a row an image; columns are its start and the
// frames of its search, their perturbations, and the target of a matched image.
(() => {
  const play = document.getElementById("play");
  if (!play) return;
  const data = JSON.parse(document.getElementById("play-data").textContent);
  const part = (name) => document.getElementById("play-" + name);
  const chosen = { set: 0, image: 0, frame: 0, flipped: false };
  const format = (value) => Number(value.toPrecision(3)).toString();

  function loaded(source) {
    const image = new Image();
    image.src = source;
    return image.decode().then(() => image);
  }

  function draw(canvas, sheet, column, row, side) {
    canvas.width = data.width;
    canvas.height = data.height;
    if (side) canvas.style.width = side + "px";
    canvas.getContext("2d").drawImage(sheet, column * data.width, row * data.height, data.width, data.height, 0, 0, data.width, data.height);
  }

  function fits(image) {
    const set = data.sets[chosen.set];
    const asks = (name, value) => !part(name) || part(name).value === "" || Number(part(name).value) === Number(value);
    return asks("looks", set.start_labels[image]) && asks("trains", set.labels[image]) && (!set.success || asks("success", set.success[image])) && set.l2[image] <= part("norm").valueAsNumber;
  }

  function pick(image) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.type = "radio";
    input.name = "play-image";
    input.value = image;
    const words = document.createElement("span");
    words.className = "unseen";
    label.append(input, document.createElement("canvas"), words);
    label.firstChild.addEventListener("change", () => choose({ image, flipped: false }));
    return label;
  }

  const picks = Array.from({ length: data.count }, (_, image) => pick(image));

  function showPicks(sheets) {
    const set = data.sets[chosen.set];
    const fitting = picks.map((_, image) => fits(image));
    picks.forEach((label, image) => {
      label.hidden = !fitting[image];
      draw(label.querySelector("canvas"), sheets[chosen.set], set.frames - 1, image, data.thumb);
      label.lastChild.textContent = `${image + 1}: starts as ${data.classes[set.start_labels[image]]}, trains as ${data.classes[set.labels[image]]}`;
    });
    const count = fitting.filter(Boolean).length;
    part("count").textContent = `${count} of ${data.count} images`;
    part("none").hidden = count > 0;
    part("apart").hidden = count === 0;
    if (count && !fitting[chosen.image]) chosen.image = fitting.indexOf(true);
    picks[chosen.image].firstChild.checked = true;
  }

  function stepName(set) {
    if (chosen.frame === 0) return "the start";
    const step = set.steps[chosen.frame];
    return step === undefined ? "the end" : `${step} of ${set.steps[set.steps.length - 1]}`;
  }

  function scoreText(set, name) {
    if (!set.scores) return "";
    const score = set.scores[chosen.image][chosen.frame];
    if (set.matched) return `features differ from the target’s by ${format(100 * score)} % of its length`;
    return `on the source, “${name}” has probability ${format(100 * Math.exp(-score))} %`;
  }

  function goalText(set, name) {
    if (!set.success) return "not recorded";
    return set.success[chosen.image] ? `reached its goal: the source says ${name}` : `missed its goal: the source does not say ${name}`;
  }

  function sizeText(set, name) {
    const { image } = chosen;
    if (set.alike) return `structural similarity ${format(set.alike[image][0])} to its start, ${format(set.alike[image][1])} to its target`;
    if (!set.size || set.size[image][0] === null) return "";
    const [way, noticed] = set.size[image];
    return `${format(way)} times the way to the nearest training image of ${name}; ${format(100 * noticed)} % of its pixels change noticeably`;
  }

  function picture(name, sheet, column, says) {
    draw(part(name), sheet, column, chosen.image);
    part(name).setAttribute("aria-label", says);
    part(name + "-says").textContent = says;
  }

  function show(sheets) {
    const set = data.sets[chosen.set];
    const { image, frame, flipped } = chosen;
    const [began, label] = [set.start_labels[image], set.labels[image]].map((number) => data.classes[number]);
    const shown = flipped ? 0 : frame;
    data.sets.forEach((other, number) => draw(part("sets").querySelectorAll("canvas")[number], sheets[number], other.frames - 1, image, data.thumb));
    const finished = frame === set.frames - 1 ? `finished: trains as ${label}` : `on the way: step ${stepName(set)}`;
    picture("start", sheets[chosen.set], 0, `start: an image of ${began}`);
    picture("image", sheets[chosen.set], shown, shown ? finished : `the start: an image of ${began}`);
    picture("difference", sheets[chosen.set], set.frames + Math.max(frame, 1) - 1, frame ? `perturbation × ${format(set.gains[image])}` : "no perturbation yet");
    if (frame === 0) blank(part("difference"));
    picture("target", sheets[chosen.set], 2 * set.frames - 1, `target: an image of ${label}, whose features it is given`);
    part("target").parentElement.hidden = !set.matched;
    part("began").textContent = began;
    part("label").textContent = label;
    part("goal").textContent = goalText(set, label);
    part("moved").textContent = `l2 ${format(set.l2[image])}, l-inf ${format(set.linf[image])}, when finished`;
    part("size").textContent = sizeText(set, label);
    part("size-row").hidden = !sizeText(set, label);
    part("step").max = set.frames - 1;
    part("step").value = frame;
    const at = [stepName(set), scoreText(set, label)].filter(Boolean).join(": ");
    part("step-shown").textContent = at;
    part("step").setAttribute("aria-valuetext", at);
    part("flip").setAttribute("aria-pressed", flipped);
    part("said").textContent = part("none").hidden ? `${part("image-says").textContent}. ${at}` : part("none").textContent;
  }

  function blank(canvas) {
    const context = canvas.getContext("2d");
    context.fillStyle = "rgb(128, 128, 128)";
    context.fillRect(0, 0, canvas.width, canvas.height);
  }

  let redraw = () => {};

  function choose(change) {
    Object.assign(chosen, change);
    redraw();
  }

  // Another set: its finished images, of any norm.
  function take(set) {
    const top = Math.ceil(100 * Math.max(...data.sets[set].l2)) / 100;
    part("norm").max = top;
    part("norm").value = top;
    choose({ set, frame: data.sets[set].frames - 1, flipped: false });
  }

  function begin(sheets) {
    redraw = () => {
      part("norm-shown").textContent = format(part("norm").valueAsNumber);
      showPicks(sheets);
      show(sheets);
    };
    part("images").append(...picks);
    part("sets").addEventListener("change", (event) => {
      take(Number(event.target.value));
    });
    for (const name of ["looks", "trains", "success", "norm"]) part(name)?.addEventListener("input", redraw);
    part("step").addEventListener("input", (event) => choose({ frame: event.target.valueAsNumber, flipped: false }));
    part("flip").addEventListener("click", () => choose({ flipped: !chosen.flipped }));
    play.hidden = false;
    take(0);
  }

  Promise.all(data.sets.map((set) => loaded(set.sheet))).then(begin);
})();
