(async () => {
  document.documentElement.classList.toggle("dark", dark.matches);
  prepareViewer();
  prepareFront();
  await drawFigures();
  await fillTable();
  document.documentElement.dataset.ready = "yes";
})();
