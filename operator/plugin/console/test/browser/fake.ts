// A small stand-in for the API server: lists, watches, a few writes, and recorded views. It knows no rights but
// that nobody may do anything in the namespace `locked`.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Policy, Session } from '../../src/api/types.ts';
import { apply } from './apply.ts';
import { comparison, HOSTILE, policies, sessions, tree } from './recorded.ts';

type Item = Session | Policy;

const EXPIRED = `${JSON.stringify({ type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired' } })}\n`;

interface Watcher {
  plural: string;
  answer: ServerResponse;
}

export class Fake {
  sessions = new Map<string, Session>(sessions().map((one) => [one.metadata.name, one]));
  policies = new Map<string, Policy>(policies().map((one) => [one.metadata.name, one]));
  /** The call trees of sessions. */
  trees: (name: string) => object = tree;
  /** What is saved as pprof. */
  profile: Uint8Array | string = 'pprof';
  asked: string[] = [];
  /** While set, every request is answered with this code. */
  broken = 0;
  private version = 100;
  private watchers: Watcher[] = [];
  private readonly server: Server = createServer((request, answer) => void this.answer(request, answer));

  async listen(): Promise<string> {
    await new Promise<void>((done) => this.server.listen(0, '127.0.0.1', done));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.drop();
    this.server.close();
    this.server.closeAllConnections();
  }

  /** Creates or changes a session. */
  put(session: Session): void {
    const known = this.sessions.has(session.metadata.name);
    session.metadata.resourceVersion = String(++this.version);
    this.sessions.set(session.metadata.name, session);
    this.tell('profilesessions', known ? 'MODIFIED' : 'ADDED', session);
  }

  /** Changes a policy, as somebody else would. */
  putPolicy(policy: Policy): void {
    policy.metadata.resourceVersion = String(++this.version);
    this.policies.set(policy.metadata.name, policy);
    this.tell('profilingpolicies', 'MODIFIED', policy);
  }

  remove(name: string, tell = true): void {
    const session = this.sessions.get(name)!;
    session.metadata.resourceVersion = String(++this.version);
    this.sessions.delete(name);
    if (tell) this.tell('profilesessions', 'DELETED', session);
  }

  /** Ends all watches in the middle of their streams. */
  drop(): void {
    for (const { answer } of this.watchers) answer.destroy();
    this.watchers = [];
  }

  /** Says to all watches that their version is too old. */
  expire(): void {
    for (const { answer } of this.watchers) answer.end(EXPIRED);
    this.watchers = [];
  }

  private tell(plural: string, type: string, object: Item): void {
    for (const watcher of this.watchers)
      if (watcher.plural === plural) watcher.answer.write(`${JSON.stringify({ type, object })}\n`);
  }

  private async answer(request: IncomingMessage, answer: ServerResponse): Promise<void> {
    const url = new URL(request.url!, 'http://fake');
    this.asked.push(`${request.method} ${request.url}`);
    let body = '';
    for await (const chunk of request) body += chunk;
    if (this.broken) return json(answer, this.broken, { kind: 'Status', message: 'The API server is ill.' });
    const [, , group, , ...rest] = url.pathname.split('/');
    if (group === 'authorization.k8s.io') return json(answer, 201, review(body));
    if (group === 'data.fleetprof.dev') return view(answer, url, rest, this);
    if (request.method === 'GET') return this.read(answer, url, rest);
    if (request.method === 'POST') return this.create(answer, url, rest[1]!, body);
    if (rest[2] === 'profilingpolicies') return this.apply(answer, url, rest[3]!, body);
    return this.cancel(answer, rest[3]!);
  }

  private apply(answer: ServerResponse, url: URL, name: string, body: string): void {
    const force = url.searchParams.get('force') === 'true';
    const asked = JSON.parse(body) as Policy;
    const applied = apply(this.policies.get(name)!, asked, force, String(this.version + 1));
    if ('code' in applied) json(answer, applied.code, { kind: 'Status', ...applied.status });
    else if (JSON.stringify(asked.spec).includes('13s'))
      json(answer, 422, { kind: 'Status', reason: 'Invalid', message: 'spec: 13 is unlucky' });
    else {
      if (!url.searchParams.has('dryRun')) this.putPolicy(applied.policy);
      json(answer, 200, applied.policy);
    }
  }

  private read(answer: ServerResponse, url: URL, rest: string[]): void {
    const namespaced = rest[0] === 'namespaces';
    const plural = namespaced ? rest[2]! : rest[0]!;
    const all: ReadonlyMap<string, Item> =
      plural === 'profilesessions'
        ? this.sessions
        : plural === 'profilingpolicies'
          ? this.policies
          : new Map();
    if (namespaced && rest[3]) {
      const found = all.get(rest[3]);
      json(answer, found ? 200 : 404, found ?? { message: `"${rest[3]}" not found` });
      return;
    }
    if (url.searchParams.get('watch') === '1') {
      answer.writeHead(200, { 'content-type': 'application/json' });
      answer.flushHeaders();
      // It keeps no history: what is not the newest version is too old.
      if (Number(url.searchParams.get('resourceVersion')) < this.version) {
        answer.end(EXPIRED);
        return;
      }
      this.watchers.push({ plural, answer });
      return;
    }
    const items = [...all.values()].filter((item) => !namespaced || item.metadata.namespace === rest[1]);
    json(answer, 200, { kind: 'List', metadata: { resourceVersion: String(this.version) }, items });
  }

  /** Refuses what the real one refuses for its duration, to test what a dry run says. */
  private create(answer: ServerResponse, url: URL, namespace: string, body: string): void {
    const asked = JSON.parse(body) as Session & { metadata: { generateName: string } };
    if (asked.spec.context?.note === 'refuse me') {
      json(answer, 422, { kind: 'Status', reason: 'Invalid', message: 'spec: the schema says no' });
      return;
    }
    const name = `${asked.metadata.generateName}x1`;
    const metadata = { ...asked.metadata, namespace, name, uid: `uid-${name}`, resourceVersion: '1' };
    const made: Session = { ...asked, metadata, status: { phase: 'Pending' } };
    if (!url.searchParams.has('dryRun')) this.put(made);
    json(answer, 201, made);
  }

  private cancel(answer: ServerResponse, name: string): void {
    const session = this.sessions.get(name)!;
    this.put({
      ...session,
      spec: { ...session.spec, cancel: true },
      status: { ...session.status, phase: 'Cancelled' },
    });
    json(answer, 200, this.sessions.get(name));
  }
}

function review(body: string): object {
  const { spec } = JSON.parse(body) as { spec: { resourceAttributes: { namespace: string } } };
  return { spec, status: { allowed: spec.resourceAttributes.namespace !== 'locked' } };
}

function view(answer: ServerResponse, url: URL, rest: string[], { trees, profile }: Fake): void {
  const [name, of] = [rest[3]!, rest[4]!];
  const format = url.searchParams.get('format');
  if (of === 'profile') {
    answer.writeHead(200, { 'content-type': 'application/octet-stream' }).end(profile);
  } else if (format === 'html') {
    answer.writeHead(200, { 'content-type': 'text/html' }).end(`<p>${HOSTILE}</p>`);
  } else if (of === 'diff') json(answer, 200, comparison());
  else json(answer, 200, trees(name));
}

function json(answer: ServerResponse, code: number, body: unknown): void {
  answer.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
