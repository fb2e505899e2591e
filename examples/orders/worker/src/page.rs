//! What does the preview of an invoice look like? A page with a soft shadow, shrunk to a quarter.

use crate::invoice::Invoice;

const WIDTH: usize = 280;
const HEIGHT: usize = 360;
const MARGIN: usize = 16;
const SHADOW: usize = 4;
const SHRINK: usize = 4;

/// Grey values, 0 is black.
struct Page {
    width: usize,
    height: usize,
    grey: Vec<u8>,
}

impl Page {
    fn new(width: usize, height: usize, grey: u8) -> Self {
        Self { width, height, grey: vec![grey; width * height] }
    }

    fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, grey: u8) {
        for row in y..(y + height).min(self.height) {
            let end = (x + width).min(self.width);
            self.grey[row * self.width + x.min(end)..row * self.width + end].fill(grey);
        }
    }
}

/// The encoded preview.
pub fn preview(invoice: &Invoice) -> Vec<u8> {
    let mut page = soften(&shadow(), SHADOW);
    page.fill(MARGIN, MARGIN, WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN, 255);
    write(&mut page, invoice);
    encode(&shrink(&page))
}

/// A dark sheet, a bit lower than the paper will lie.
fn shadow() -> Page {
    let mut page = Page::new(WIDTH, HEIGHT, 230);
    page.fill(MARGIN + 3, MARGIN + 3, WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN, 90);
    page
}

/// Blurs: every pixel becomes the mean of the square of `radius` around it. Adds up each square from scratch,
/// although it shares all but two columns with its neighbour's, and although rows and columns could be done
/// one after the other.
#[inline(never)]
fn soften(page: &Page, radius: usize) -> Page {
    let mut soft = Page::new(page.width, page.height, 0);
    for y in 0..page.height {
        for x in 0..page.width {
            let (left, right) = (x.saturating_sub(radius), (x + radius + 1).min(page.width));
            let (mut sum, mut count) = (0u32, 0u32);
            let mut row = y.saturating_sub(radius);
            while row < (y + radius + 1).min(page.height) {
                let line = &page.grey[row * page.width..(row + 1) * page.width];
                let mut column = left;
                while column < right {
                    sum += line[column] as u32;
                    count += 1;
                    column += 1;
                }
                row += 1;
            }
            soft.grey[y * page.width + x] = (sum / count) as u8;
        }
    }
    soft
}

/// The invoice's number, its lines and its sum, as bars where letters would be.
fn write(page: &mut Page, invoice: &Invoice) {
    let left = MARGIN + 12;
    bar(page, left, MARGIN + 14, &format!("Invoice {}", invoice.number), 8);
    for (row, line) in invoice.lines.iter().enumerate() {
        let y = MARGIN + 48 + row * 18;
        bar(page, left, y, &line.text, 5);
        bar(page, WIDTH - MARGIN - 60, y, &money(line.cents), 5);
    }
    bar(page, WIDTH - MARGIN - 60, HEIGHT - MARGIN - 24, &money(invoice.total()), 8);
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// One word of text as dark strokes, a letter 5 wide.
fn bar(page: &mut Page, x: usize, y: usize, text: &str, height: usize) {
    for (place, letter) in text.bytes().enumerate().filter(|(_, letter)| *letter != b' ') {
        page.fill(x + place * 5, y, 2 + usize::from(letter % 3), height, 40);
    }
}

/// Every square of [`SHRINK`] pixels becomes one.
fn shrink(page: &Page) -> Page {
    let mut small = Page::new(page.width / SHRINK, page.height / SHRINK, 0);
    for y in 0..small.height {
        for x in 0..small.width {
            let mut sum = 0u32;
            for row in 0..SHRINK {
                let start = (y * SHRINK + row) * page.width + x * SHRINK;
                sum += page.grey[start..start + SHRINK].iter().map(|grey| u32::from(*grey)).sum::<u32>();
            }
            small.grey[y * small.width + x] = (sum / (SHRINK * SHRINK) as u32) as u8;
        }
    }
    small
}

/// Width, height and runs of (length, grey).
fn encode(page: &Page) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.grey.len() / 4);
    out.extend((page.width as u16).to_be_bytes());
    out.extend((page.height as u16).to_be_bytes());
    let mut rest = page.grey.as_slice();
    while let Some(grey) = rest.first().copied() {
        let run = rest.iter().take(255).take_while(|next| **next == grey).count();
        out.extend([run as u8, grey]);
        rest = &rest[run..];
    }
    out
}
