/** Sentences with placeholders: `fill("slice {number}", {number: 3})` is "slice 3". */
export function fill(sentence, values) {
  return sentence.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}
