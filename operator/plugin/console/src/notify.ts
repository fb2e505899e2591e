// May the browser tell of the end of sessions while nobody looks at the page? Only if the person has asked for it.
import { signal } from '@preact/signals';

/** What the browser says: `default` before it was asked, and nothing where it cannot tell. */
export type Permission = 'default' | 'granted' | 'denied' | 'none';

const now = (): Permission => (typeof Notification === 'undefined' ? 'none' : Notification.permission);

/** The permission of this page. */
export const permission = signal<Permission>(now());

/** Asks the person, who has just pressed a button for it. */
export async function ask(): Promise<void> {
  if (now() === 'none') return;
  await Notification.requestPermission();
  permission.value = now();
}

/** Tells of something while the page is hidden; a click leads to it. */
export function notify(text: string, href: string): void {
  if (permission.value !== 'granted' || !document.hidden) return;
  try {
    const told = new Notification('fleetprof', { body: text, tag: href });
    told.onclick = () => {
      window.focus();
      location.assign(href);
      told.close();
    };
  } catch {
    // Some browsers have it for service workers alone: the page tells it once it is looked at.
    permission.value = 'none';
  }
}
