/* The first table: all of its rows, and the structure of the one that is clicked. */
function showStructure(candidate) {
  const chosen = document.getElementById("candidate");
  if (!page.structures[candidate]) return;
  chosen.value = candidate;
  view(candidate);
  chosen.closest("section").scrollIntoView({behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"});
}

function prepareFront() {
  const all = document.getElementById("all");
  if (all) {
    all.onclick = () => {
      document.getElementById("more").hidden = false;
      all.remove();
    };
  }
  const chosen = event => {
    const row = event.target.closest("[data-candidate]");
    if (row && (event.type === "click" || event.key === "Enter")) showStructure(row.dataset.candidate);
  };
  addEventListener("click", chosen);
  addEventListener("keydown", chosen);
}
