// Which command lines can be copied? Each word is quoted for a shell, since names may come from an address that
// somebody else wrote, and each line names the cluster that the page shows. Pure.

/** A word that a shell takes as it is. */
export function quoted(word: string): string {
  return /^[A-Za-z0-9./:@_=%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** A line of these words for the cluster that these flags choose. */
export function line(words: readonly string[], flags: readonly string[]): string {
  return [...words, ...flags].map(quoted).join(' ');
}

/** Whether an object can have this name. */
export function isName(text: string): boolean {
  return /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(text);
}

/** What shows a profile, or its comparison with `base`, on the command line; nothing if `base` is no name. */
export function profileLine(
  session: { namespace: string; name: string; base: string | undefined },
  flags: readonly string[],
): string | undefined {
  const { namespace, name, base } = session;
  if (!base)
    return line(['kubectl', 'fleetprof', 'flame', name, '-n', namespace, '-o', `${name}.html`], flags);
  if (!isName(base)) return undefined;
  return line(['kubectl', 'fleetprof', 'diff', name, '-n', namespace, '--base', base], flags);
}
