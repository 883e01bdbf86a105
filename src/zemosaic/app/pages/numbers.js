// Amounts in words, as coarse as they are sure.
import { chosenLanguage, t } from "./words.js";

export const inGb = (bytes) => (bytes / 1e9).toLocaleString(chosenLanguage(), { maximumFractionDigits: bytes < 1e8 ? 2 : 1, minimumFractionDigits: 1 });

// Three figures, with the decimal sign of the language and no thousands apart.
export const short = (value) => (Number.isFinite(value) ? value.toLocaleString(chosenLanguage(), { maximumSignificantDigits: 3, useGrouping: false }) : "");

// Below this nobody counts along.
const FEW_S = 5;

export const spellLeft = (seconds) => (seconds < FEW_S ? t("run.left-few") : t("run.left", { time: spell(seconds) }));

export function spell(seconds) {
  if (seconds < 90) return t("time.seconds", { n: Math.max(Math.round(seconds), 1) });
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? t("time.minutes", { n: minutes }) : t("time.hours", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
}
