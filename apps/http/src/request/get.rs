//! GET and HEAD: files, the metrics page, redirects, and the page for what is not there.
use super::answer::{Answer, AnswerFields, Refusal, SERVER, Selection, content_range};
use super::conditions::{self, Validators, Verdict};
use super::fields::Fields;
use super::multipart::Multipart;
use super::range::{self, RangeRequest};
use super::{accept_encoding, path};
use crate::body::Payload;
use crate::content::{Contents, FileHeaders, Resident, Segment, Stream};
use crate::metrics;
use crate::platform::{BlockSource, Clock};
use crate::server::Server;
use crate::site::{Coding, File, FileId, Found};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Uri};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

const METRICS_PATH: &[u8] = b".paravane/metrics";
const NOT_FOUND_PAGE: &[u8] = b"404.html";

/// A file in the form that the client gets it in.
pub(super) struct Representation<'a> {
    pub(super) id: FileId,
    pub(super) file: &'a File,
    pub(super) coding: Option<Coding>,
    varies: bool,
    /// The type of the plain form.
    pub(super) media_type: &'static str,
}

impl Representation<'_> {
    /// The fields of the answer with the whole file.
    pub(super) fn fill(&self, headers: &FileHeaders, map: &mut HeaderMap) {
        map.insert(header::SERVER, SERVER);
        describe(self, headers, &Selection::Whole).1.fill(map);
    }
}

impl<C: Clock, B: BlockSource> Server<C, B> {
    /// Answers a GET or HEAD request for a file in memory; `None` if there is more to it.
    pub(super) fn get_cached(
        &self,
        parts: &Parts,
        fields: &Fields,
    ) -> Option<Result<Answer, Refusal>> {
        let path = path::decode(parts.uri.path()).ok()?;
        let Found::File(id) = self.site.find(&path) else { return None };
        let chosen = self.choose(id, fields.accepted_encodings());
        let resident = self.contents.cached(chosen.id)?;
        let is_head = parts.method == Method::HEAD;
        let (status, fields, selection) = match plan(&chosen, &resident.headers, fields, is_head) {
            Ok(Plan::Answer(answer)) => return Some(Ok(answer)),
            Ok(Plan::Content(status, fields, selection)) => (status, fields, selection),
            Err(refusal) => return Some(Err(refusal)),
        };
        let payload = resident.payload(&selection)?;
        Some(Ok(Answer { status, fields, payload }))
    }

    /// Answers a GET or HEAD request.
    pub(super) async fn get(
        self: &Rc<Self>,
        parts: &Parts,
        fields: &Fields,
    ) -> Result<Answer, Refusal> {
        let is_head = parts.method == Method::HEAD;
        let path =
            path::decode(parts.uri.path()).map_err(|_| Refusal::new(StatusCode::BAD_REQUEST))?;
        let answer = if *path == *METRICS_PATH && self.shared.config.metrics {
            Answer::page(metrics::MEDIA_TYPE, self.shared.metrics.render(self.gauges()))
        } else {
            match self.site.find(&path) {
                Found::File(id) => return self.get_file(id, fields, is_head).await,
                Found::Directory => redirect(&parts.uri)?,
                Found::Nothing => self.not_found().await?,
            }
        };
        Ok(if is_head { answer.without_body() } else { answer })
    }

    async fn get_file(
        self: &Rc<Self>,
        id: FileId,
        fields: &Fields,
        is_head: bool,
    ) -> Result<Answer, Refusal> {
        let chosen = self.choose(id, fields.accepted_encodings());
        let resident = self.resident(chosen.id).await?;
        let made;
        let headers = match &resident {
            Some(resident) => &resident.headers,
            None => {
                made = Contents::<B>::headers(chosen.file);
                &made
            }
        };
        match plan(&chosen, headers, fields, is_head)? {
            Plan::Answer(answer) => Ok(answer),
            Plan::Content(status, fields, selection) => {
                let payload = self.payload(chosen.file, resident.as_deref(), selection).await?;
                Ok(Answer { status, fields, payload })
            }
        }
    }

    /// Negotiates the form.
    pub(super) fn choose(&self, id: FileId, accepted: Option<&[u8]>) -> Representation<'_> {
        let plain = self.site.file(id);
        let varies = plain.has_variants();
        let coding = accepted.filter(|_| varies).and_then(|accepted| {
            accept_encoding::preferred(accepted, |coding| plain.variant(coding).is_some())
        });
        let id = coding.and_then(|coding| plain.variant(coding)).unwrap_or(id);
        let file = self.site.file(id);
        Representation { id, file, coding, varies, media_type: plain.media_type }
    }

    /// The file in memory, if it is small and there is room for it.
    async fn resident(&self, id: FileId) -> Result<Option<Rc<Resident>>, Refusal> {
        let file = self.site.file(id);
        if !self.contents.is_cacheable(file) {
            return Ok(None);
        }
        self.contents.resident(id, file).await.map_err(disk_failed)
    }

    async fn payload(
        &self,
        file: &File,
        resident: Option<&Resident>,
        selection: Selection,
    ) -> Result<Payload, Refusal> {
        if let Some(payload) = resident.and_then(|resident| resident.payload(&selection)) {
            return Ok(payload);
        }
        let (segments, len) = match selection {
            Selection::Whole => one_segment(file.offset, file.len),
            Selection::One(range) => {
                one_segment(file.offset + range.start, range.end - range.start)
            }
            Selection::Many(multipart) => (multipart.segments, multipart.len),
        };
        let mut stream = Stream::new(Rc::clone(&self.contents), segments);
        stream.prime().await.map_err(disk_failed)?;
        Ok(Payload::Stream(Box::new(stream), len))
    }

    /// The site's own page, or a plain one.
    async fn not_found(&self) -> Result<Answer, Refusal> {
        let refusal = Refusal::new(StatusCode::NOT_FOUND);
        let Found::File(id) = self.site.find(NOT_FOUND_PAGE) else { return Err(refusal) };
        let file = self.site.file(id);
        let resident = self.resident(id).await?;
        let payload = self.payload(file, resident.as_deref(), Selection::Whole).await?;
        let media_type = Some(HeaderValue::from_static(file.media_type));
        let fields = AnswerFields { media_type, ..AnswerFields::default() };
        Ok(Answer { status: refusal.status, fields, payload })
    }
}

impl Resident {
    /// What is selected of the file; `None` if that is more than one piece.
    fn payload(&self, selection: &Selection) -> Option<Payload> {
        match selection {
            Selection::Whole => Some(Payload::Bytes(self.bytes.clone())),
            Selection::One(range) => {
                let index = |at| usize::try_from(at).unwrap_or(0);
                Some(Payload::Bytes(self.bytes.slice(index(range.start)..index(range.end))))
            }
            Selection::Many(_) => None,
        }
    }
}

/// What a file is answered with, before its content is there.
enum Plan {
    /// Nothing of the content.
    Answer(Answer),
    Content(StatusCode, AnswerFields, Selection),
}

/// Applies conditions and ranges.
fn plan(
    chosen: &Representation<'_>,
    headers: &FileHeaders,
    fields: &Fields,
    is_head: bool,
) -> Result<Plan, Refusal> {
    let validators = Validators { etag: &headers.etag, last_modified: &headers.last_modified };
    match conditions::evaluate(fields, validators) {
        Verdict::Failed => return Err(Refusal::new(StatusCode::PRECONDITION_FAILED)),
        Verdict::NotModified => return Ok(Plan::Answer(not_modified(chosen, headers))),
        Verdict::Proceed => {}
    }
    // RFC 9110, 14.2: Range is for GET only.
    let selection = if is_head { Selection::Whole } else { select(chosen, fields, validators)? };
    let (status, fields) = describe(chosen, headers, &selection);
    Ok(if is_head {
        let payload = Payload::LengthOnly(chosen.file.len);
        Plan::Answer(Answer { status, fields, payload })
    } else {
        Plan::Content(status, fields, selection)
    })
}

fn one_segment(offset: u64, len: u64) -> (VecDeque<Segment>, u64) {
    (VecDeque::from([Segment::Disk { offset, len }]), len)
}

fn disk_failed(error: io::Error) -> Refusal {
    log::error!("the site's disk cannot be read: {error}");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The same target with a slash behind the path.
fn redirect(uri: &Uri) -> Result<Answer, Refusal> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    HeaderValue::try_from(format!("{}/{query}", uri.path()))
        .map(Answer::moved)
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST))
}

fn not_modified(chosen: &Representation<'_>, headers: &FileHeaders) -> Answer {
    let mut answer = Answer::from(Refusal::new(StatusCode::NOT_MODIFIED));
    // RFC 9110, 15.4.5: what the client has describes the content already.
    answer.fields = AnswerFields::of_file(headers, None, chosen.varies);
    answer
}

/// Applies `Range` and `If-Range`.
fn select(
    chosen: &Representation<'_>,
    fields: &Fields,
    validators: Validators<'_>,
) -> Result<Selection, Refusal> {
    let applies = conditions::range_applies(fields.if_range.as_ref(), validators);
    let Some(field) = fields.range.as_ref().filter(|_| applies) else {
        return Ok(Selection::Whole);
    };
    match range::parse(field.as_bytes(), chosen.file.len) {
        RangeRequest::Whole => Ok(Selection::Whole),
        RangeRequest::Unsatisfiable => Err(Refusal::range(chosen.file.len)),
        RangeRequest::Parts(parts) => match &parts[..] {
            [one] => Ok(Selection::One(one.clone())),
            many => {
                let multipart = Multipart::new(chosen.file, chosen.media_type, many);
                Ok(multipart.map_or(Selection::Whole, Selection::Many))
            }
        },
    }
}

fn describe(
    chosen: &Representation<'_>,
    headers: &FileHeaders,
    selection: &Selection,
) -> (StatusCode, AnswerFields) {
    let mut fields = AnswerFields::of_file(headers, chosen.coding, chosen.varies);
    fields.accepts_ranges = true;
    fields.media_type = Some(match chosen.coding {
        None => headers.media_type.clone(),
        Some(_) => HeaderValue::from_static(chosen.media_type),
    });
    match selection {
        Selection::Whole => return (StatusCode::OK, fields),
        Selection::One(range) => {
            let value = content_range(range, chosen.file.len);
            fields.content_range = HeaderValue::try_from(value).ok();
        }
        Selection::Many(multipart) => fields.media_type = Some(multipart.media_type.clone()),
    }
    (StatusCode::PARTIAL_CONTENT, fields)
}
