"use strict";
// Only the input of the chosen client is shown.
document.addEventListener("DOMContentLoaded", () => {
  const follow = () => {
    const chosen = document.querySelector("input[name=client]:checked")?.value;
    document.querySelector(".field-token").hidden = chosen !== "token";
    document.querySelector(".field-username").hidden = chosen !== "user";
  };
  for (const each of document.querySelectorAll("input[name=client]")) each.addEventListener("change", follow);
  follow();
});
