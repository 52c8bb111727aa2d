#[path="iptables_backend/bed.rs"] #[allow(dead_code)] mod bed;
use bed::*; use std::time::Instant;
fn med(mut v: Vec<f64>) -> f64 { v.sort_by(f64::total_cmp); v[v.len()/2] }
#[test] fn timing() {
  for variant in VARIANTS { for n in [0u32, 300] { for v6 in [false,true] {
    let host = Host::new(variant);
    for i in 0..n { let mut p = published("web", &format!("x{i}"), (88, 9), &[tcp(10000+i as u16, 80)]); if !v6 {p.published.as_mut().unwrap().v6=None;} host.apply(&p); }
    let mut nw = network("web","br0",88); if !v6 { nw.network.as_mut().unwrap().egress.pop(); }
    host.apply(&nw);
    let mut b = host.backend();
    let (a,c,d,e,f) = host.node.run(move || {
      let (mut t1,mut t2,mut t3,mut t4,mut t5)=(vec![],vec![],vec![],vec![],vec![]);
      for i in 0..15 {
        let s=Instant::now(); b.apply(&nw).unwrap(); t1.push(s.elapsed().as_secs_f64()*1e3);
        let mut p = published("web", &format!("c{i}"), (88,2), &[tcp(8080,80)]); if !v6 {p.published.as_mut().unwrap().v6=None;}
        let s=Instant::now(); b.apply(&p).unwrap(); t2.push(s.elapsed().as_secs_f64()*1e3);
        let s=Instant::now(); b.withdraw(&p).unwrap(); t3.push(s.elapsed().as_secs_f64()*1e3);
        let ports: Vec<_> = (0..50).map(|k| tcp(20000+k*3, 80+k)).collect();
        let mut p = published("web", &format!("c{i}"), (88,2), &ports); if !v6 {p.published.as_mut().unwrap().v6=None;}
        let s=Instant::now(); b.apply(&p).unwrap(); t4.push(s.elapsed().as_secs_f64()*1e3);
        let s=Instant::now(); b.withdraw(&p).unwrap(); t5.push(s.elapsed().as_secs_f64()*1e3);
      }
      (med(t1),med(t2),med(t3),med(t4),med(t5))
    });
    println!("{variant:?} base {n} v6 {v6}: network {a:.2} publish1 {c:.2} withdraw1 {d:.2} publish50 {e:.2} withdraw50 {f:.2} ms");
  }}}
}
