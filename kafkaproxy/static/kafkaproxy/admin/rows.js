// On a narrow screen the cells of inline rows stand one below the other (admin.css), each with its column's name.
"use strict";
{
    document.addEventListener("DOMContentLoaded", () => {
        for (const table of document.querySelectorAll(".tabular.inline-related table")) {
            const names = [...table.tHead.rows[0].cells].slice(1).map(cell => cell.textContent.trim());
            for (const row of table.querySelectorAll("tr.form-row")) { // the empty one too: new rows are copies of it
                [...row.cells].slice(1).forEach((cell, index) => { cell.dataset.column = names[index]; });
            }
        }
    });
}
