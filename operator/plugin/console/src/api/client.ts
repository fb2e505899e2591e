// How is the Kubernetes API asked? Through the console's server on this machine, with a token in a header.

/** A request that failed: what the API server, or the way to it, said. */
export class ApiError extends Error {
  readonly code: number;
  readonly reason: string;
  /** What in the request is wrong, field by field. */
  readonly causes: readonly Cause[];

  constructor(code: number, reason: string, message: string, causes: readonly Cause[] = []) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.causes = causes;
  }
}

/** What the API server says of one field. */
export interface Cause {
  reason?: string;
  message?: string;
  field?: string;
}

/** What the server of the console tells once. */
export interface Start {
  token: string;
  /** Namespace of the kubeconfig or of `--namespace`. */
  namespace: string;
  /** Whether to begin with all namespaces. */
  allNamespaces: boolean;
  context: string;
  /** The flags with which a command acts on the cluster that the page shows, word by word. */
  flags: string[];
  version: string;
  /** Whether the plugin was built with speedscope. */
  speedscope: boolean;
}

export type Fetch = (path: string, init?: RequestInit) => Promise<Response>;

/** The browser's own, which must not be called as a method of something else. */
const browser: Fetch = (path, init) => fetch(path, init);

const HEADER = 'x-fleetprof-console';

/** Exchanges the one-time code of the link for a token. */
export async function begin(code: string, fetch_: Fetch = browser): Promise<Start> {
  const init = {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ code }),
  };
  return (await answer(await fetch_('/session', init))).json() as Promise<Start>;
}

/** The Kubernetes API, as far as the console may use it. */
export class Api {
  private readonly token: string;
  private readonly fetch_: Fetch;
  /** How far the clock of the API server is ahead of this machine's, in ms. */
  ahead = 0;

  constructor(token: string, fetch_: Fetch = browser) {
    this.token = token;
    this.fetch_ = fetch_;
  }

  async get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return (await this.send('GET', path, { signal: signal ?? null })).json() as Promise<T>;
  }

  /** The answer as it comes, for streams and files. */
  async open(path: string, signal?: AbortSignal): Promise<Response> {
    return this.send('GET', path, { signal: signal ?? null });
  }

  async post<T>(path: string, body: unknown): Promise<T> {
    return (await this.write('POST', path, body, 'application/json')).json() as Promise<T>;
  }

  async patch<T>(path: string, body: unknown): Promise<T> {
    return (await this.write('PATCH', path, body, 'application/merge-patch+json')).json() as Promise<T>;
  }

  /** Server-side apply, in the name of the console. */
  async apply<T>(path: string, object: object, options: Record<string, string> = {}): Promise<T> {
    const full = `${path}?${new URLSearchParams(options)}`;
    return (await this.write('PATCH', full, object, 'application/apply-patch+yaml')).json() as Promise<T>;
  }

  /** Now, by the clock of the API server. */
  now(): number {
    return Date.now() + this.ahead;
  }

  private write(method: string, path: string, body: unknown, type: string): Promise<Response> {
    return this.send(method, path, { headers: { 'content-type': type }, body: JSON.stringify(body) });
  }

  /** Compares the clocks. Less than 2 s is none: the header has whole seconds. */
  private compare(theirs: number): void {
    if (Number.isNaN(theirs)) return;
    const ahead = theirs - Date.now();
    this.ahead = Math.abs(ahead) > 2000 ? ahead : 0;
  }

  private async send(method: string, path: string, init: RequestInit): Promise<Response> {
    const headers = { ...(init.headers as Record<string, string>), [HEADER]: this.token };
    let response: Response;
    try {
      response = await this.fetch_(`/api${path}`, { ...init, method, headers, cache: 'no-store' });
    } catch (error) {
      if (error instanceof DOMException && error.name === 'AbortError') throw error;
      throw new ApiError(0, 'Unreachable', 'kubectl fleetprof console does not answer: is it still running?');
    }
    // The console's own refusals have the time of this machine.
    if (response.ok) this.compare(Date.parse(response.headers.get('date') ?? ''));
    return answer(response);
  }
}

/** An answer that is none is an error with the server's own words. */
async function answer(response: Response): Promise<Response> {
  if (response.ok) return response;
  const text = await response.text();
  try {
    const status = JSON.parse(text) as { reason?: string; message?: string; details?: { causes?: Cause[] } };
    const { reason = '', message = text, details } = status;
    throw new ApiError(response.status, reason, message, details?.causes ?? []);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError(response.status, '', text.slice(0, 500) || `HTTP ${response.status}`);
  }
}

/** Whether the API server will say the same again: it read the request and does not want it. Not so a wrong
 * token (401), a request that came too slowly (408) or too soon (429), and its own trouble (5xx). */
export function refuses(error: unknown): boolean {
  if (!(error instanceof ApiError) || error.code < 400 || error.code >= 500) return false;
  return ![401, 408, 429].includes(error.code);
}

/** The words for an error, whatever it is. */
export function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
