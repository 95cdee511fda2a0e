(async () => {
  document.documentElement.classList.toggle("dark", dark.matches);
  prepareViewer();
  await drawFigures();
  prepareRows();
  await fillTable();
  document.documentElement.dataset.ready = "yes";
})();
