addEventListener("load", () => {
  document.body.dataset.ready = [...document.images].every(image => image.complete && image.naturalWidth > 0);
});
