// The gallery: unfolded where scripts run.
(() => {
  const gallery = document.getElementById("play");
  if (gallery) gallery.hidden = false;
})();
