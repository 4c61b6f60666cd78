// app/api/bookings/[id]/confirm/route.ts of a Next.js application. It runs on Node, not on the edge.
import { VERSIONS, type Kinds } from "./kinds.ts";
import { Skycap, SkycapError } from "./skycap.ts";

export const runtime = "nodejs";

const skycap = new Skycap<Kinds>({
  url: process.env["SKYCAP_URL"] ?? "http://127.0.0.1:8600",
  token: process.env["SKYCAP_TOKEN"],
  versions: VERSIONS,
});

export async function POST(request: Request, { params }: { params: Promise<{ id: string }> }): Promise<Response> {
  const { id } = await params;
  // In earnest, who it is comes from your session and not from the request.
  const { userId, userEmail } = (await request.json()) as { userId: string; userEmail: string };
  try {
    const { jobId } = await skycap.enqueue(
      "send-booking-confirmation",
      { bookingId: id, userId, userEmail, bookingType: "HOTEL" },
      { idempotencyKey: `confirm:${id}`, signal: request.signal },
    );
    return Response.json({ jobId }, { status: 202 });
  } catch (error) {
    if (!(error instanceof SkycapError)) throw error;
    return Response.json({ error: error.message }, { status: error.retryable ? 503 : 400 });
  }
}
