// A profile in speedscope: in a frame without an origin, which asks nobody and reaches nothing of this page.
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { words } from '../api/client.ts';
import { api, setParams } from '../state.ts';

/** Speedscope with the profile of a path; `file` names it, without an ending. */
export function Speedscope({ path, file }: { path: string; file: string }) {
  const frame = useRef<HTMLIFrameElement>(null);
  const stop = useRef(new AbortController());
  const problem = useSignal('');
  useEffect(() => () => stop.current.abort(), []);
  const give = async () => {
    try {
      const answer = await api.value!.open(path, stop.current.signal);
      const profile = await answer.arrayBuffer();
      // A document without an origin cannot be named; the policy of this page keeps others out of the frame.
      frame.current?.contentWindow?.postMessage(profile, '*', [profile]);
    } catch (error) {
      if (!stop.current.signal.aborted) problem.value = words(error);
    }
  };
  // Speedscope reads its choices behind `#`; what it fetches from this address is what it is given.
  const choices = `profileURL=${encodeURIComponent(`/${file}.pb.gz`)}&title=${encodeURIComponent(file)}&view=left-heavy`;
  return (
    <section aria-label="Profile in speedscope">
      <p>
        <button type="button" onClick={() => setParams({ view: '' }, false)}>
          Back to the flame graph
        </button>
      </p>
      {problem.value && (
        <p role="alert" class="bad">
          The profile could not be read: {problem.value}
        </p>
      )}
      <iframe
        ref={frame}
        class="speedscope"
        title={`${file} in speedscope`}
        src={`/speedscope#${choices}`}
        sandbox="allow-scripts"
        onLoad={() => void give()}
      />
    </section>
  );
}
